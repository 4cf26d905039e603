"""Connects the engine's thread with the bus: publishes steps as events and raises a cancel in the engine."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from services.a100worker import metrics
from services.a100worker.cancel_flag import CancelFlag
from services.a100worker.job.previews import PreviewEncoder
from shared import tracing
from shared.bus import PUBLISH_S
from shared.errors import BrokerUnavailable, JobCancelled, WrongLastSequence
from shared.job_events import publish_event
from shared.messages import Preview, Progress

if TYPE_CHECKING:
    from services.a100worker import backend
    from shared.bus import Bus

_HEADERS = {Progress: None, Preview: {"Nats-Rollup": "sub"}}  # without a limit, previews would displace other events
_DEADLINE_S = {Progress: PUBLISH_S, Preview: 1.0}  # a late preview delays the steps after it
log = logging.getLogger(__name__)


class ProgressPublisher:
    """The StepReporter of one job. The engine calls it from its own thread; `publish` runs on the event loop.

    Events leave in order, each step once. The stream keeps only the newest preview of a job.
    """

    def __init__(self, bus: Bus, job_id: str, previews: PreviewEncoder | None = None) -> None:
        self.cancel_flag = CancelFlag()
        self.last: Progress | None = None
        self._bus = bus
        self._job_id = job_id
        self._run_id = uuid4().hex  # a second attempt publishes the same steps under other message ids
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Progress | Preview | None] = asyncio.Queue()
        self._previews = previews or PreviewEncoder()
        self._stepped_at = 0.0
        self._called_at = time.monotonic()

    def __call__(
        self, done: int, total: int, message: str | None = None, preview: backend.Preview | None = None
    ) -> None:
        """Report step `done` of `total` (1-based; 0 while preparing). Raises JobCancelled."""
        self._called_at = time.monotonic()
        if self.cancel_flag.is_set():
            raise JobCancelled
        step = done if done > 0 else None
        if step is not None and self.last is not None and self.last.step == step:
            return
        tracing.add_event("step", step=done, of=total)
        self._observe_duration(step)
        self.last = Progress(
            job_id=self._job_id,
            phase="processing",
            step=step,
            total_steps=total if step is not None else None,
            fraction=done / total if total else 0.0,
            message=message,
        )
        self._enqueue(self.last)
        if preview is not None and step is not None and step < total:  # after the last step comes the result itself
            jpeg = self._previews.encode(preview)
            if jpeg is not None:
                self._enqueue(Preview(job_id=self._job_id, step=step, jpeg_base64=jpeg))

    @property
    def idle_s(self) -> float:
        """Seconds since the engine last reported a step, or since the job began."""
        return time.monotonic() - self._called_at

    def _observe_duration(self, step: int | None) -> None:
        now = time.monotonic()
        if step is not None and self._stepped_at:
            metrics.STEP_SECONDS.observe(now - self._stepped_at)
        self._stepped_at = now

    def _enqueue(self, event: Progress | Preview) -> None:
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def publish(self) -> None:
        """Publish events until `finish` is called. An event that cannot be published is dropped; the job goes on."""
        count = 0
        while (event := await self._events.get()) is not None:
            count += 1
            try:
                await publish_event(
                    self._bus,
                    event,
                    msg_id=f"{self._run_id}.{count}",
                    headers=_HEADERS[type(event)],
                    deadline_s=_DEADLINE_S[type(event)],
                )
            except WrongLastSequence:
                self.cancel_flag.set()  # the job has ended, and this worker missed the event
            except BrokerUnavailable:
                log.warning("job.step-not-published", extra={"job_id": self._job_id, "step": event.step})

    def finish(self) -> None:
        """Make `publish` return after it has published the waiting events."""
        self._events.put_nowait(None)
