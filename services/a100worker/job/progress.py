"""Between the engine's thread and the bus: steps go out as events, a cancel comes in as an exception."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from services.a100worker import metrics
from services.a100worker.cancel_flag import CancelFlag
from services.a100worker.job.previews import Previews
from shared import tracing
from shared.bus import PUBLISH_S
from shared.errors import BrokerUnavailable, JobCancelled, WrongLastSequence
from shared.job_events import publish_event
from shared.messages import Preview, Progress

if TYPE_CHECKING:
    from services.a100worker import backend
    from shared.bus import Bus

_KEPT = {Progress: None, Preview: {"Nats-Rollup": "sub"}}
_PATIENCE_S = {Progress: PUBLISH_S, Preview: 1.0}  # the steps behind it wait for it
log = logging.getLogger(__name__)


class Reporter:
    """The `step` that an engine calls, from its own thread; events leave in order, each step once.

    `publish` runs on the event loop beside the engine.
    """

    def __init__(self, bus: Bus, job_id: str, previews: Previews | None = None) -> None:
        self.cancelled = CancelFlag()
        self.last: Progress | None = None
        self._bus = bus
        self._job_id = job_id
        self._run = uuid4().hex  # a job may be told of again from its first step
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Progress | Preview | None] = asyncio.Queue()
        self._previews = previews or Previews()
        self._stepped_at = 0.0
        self._heard_at = time.monotonic()

    def __call__(
        self, done: int, total: int, message: str | None = None, preview: backend.Preview | None = None
    ) -> None:
        """Report step `done` of `total` (1-based; 0 while preparing). Raises JobCancelled."""
        self._heard_at = time.monotonic()
        if self.cancelled.is_set():
            raise JobCancelled
        step = done if done > 0 else None
        if step is not None and self.last is not None and self.last.step == step:
            return
        tracing.add_event("step", step=done, of=total)
        self._time(step)
        self.last = Progress(
            job_id=self._job_id,
            phase="processing",
            step=step,
            total_steps=total if step is not None else None,
            fraction=done / total if total else 0.0,
            message=message,
        )
        self._tell(self.last)
        if preview is not None and step is not None and step < total:  # behind the last one comes the result itself
            jpeg = self._previews.of(preview)
            if jpeg is not None:
                self._tell(Preview(job_id=self._job_id, step=step, jpeg_base64=jpeg))

    @property
    def silent_s(self) -> float:
        """Seconds since the engine has said something, or since the job began."""
        return time.monotonic() - self._heard_at

    def _time(self, step: int | None) -> None:
        now = time.monotonic()
        if step is not None and self._stepped_at:
            metrics.STEP_SECONDS.observe(now - self._stepped_at)
        self._stepped_at = now

    def _tell(self, event: Progress | Preview) -> None:
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def publish(self) -> None:
        """Publish until `finish` is called. A step that cannot be told is not worth the job.

        Of the previews the stream keeps the newest: all of them together would crowd out other jobs' events.
        """
        sent = 0
        while (event := await self._events.get()) is not None:
            sent += 1
            try:
                await publish_event(
                    self._bus,
                    event,
                    msg_id=f"{self._run}.{sent}",
                    headers=_KEPT[type(event)],
                    deadline_s=_PATIENCE_S[type(event)],
                )
            except WrongLastSequence:
                self.cancelled.set()  # we should have heard of it
            except BrokerUnavailable:
                log.warning("job.step-not-told", extra={"job_id": self._job_id, "step": event.step})

    def finish(self) -> None:
        """Let `publish` end when it has sent what is waiting."""
        self._events.put_nowait(None)
