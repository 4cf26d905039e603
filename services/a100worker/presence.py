"""Keeps the name, engine, state and job of this worker, and drains it at an operator's request."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from services.a100worker import metrics
from services.a100worker.backend import facts_of
from shared import rpc, subjects
from shared.messages import DrainReply, DrainRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.a100worker.backend import Engine

State = Literal["loading", "ready", "draining", "stopped"]
_CPU = "cpu"
log = logging.getLogger(__name__)


class Presence:
    """One worker's name, engine, current job and state."""

    def __init__(self, name: str, engine: str) -> None:
        self.name = name
        self.model: str | None = None
        self.device: str | None = None
        self.job: str | None = None
        self.state: State = "loading"
        self.drained = asyncio.Event()
        self.metadata = {"instance": name, "engine": engine, "model": "", "device": ""}
        """For `nats micro info`; changes with every job."""
        self._show()

    def note_engine(self, engine: Engine) -> None:
        """Record the engine that was loaded. A worker that was drained meanwhile stays drained."""
        facts = facts_of(engine)
        self.model, self.device = facts.get("model"), facts.get("device", _CPU)
        self.metadata |= {"engine": engine.name, "model": self.model or "", "device": self.device}
        metrics.WORKER.labels(self.name, engine.name, self.model or "", self.device).set(1)
        if not self.drained.is_set():
            self.state = "ready"
        self._show()

    @contextmanager
    def working(self, job_id: str) -> Iterator[None]:
        """Count as busy with this job while the block runs."""
        self.job = job_id
        metrics.BUSY.set(1)
        self._show()
        try:
            yield
        finally:
            self.job = None
            metrics.BUSY.set(0)
            self._show()

    def end(self) -> None:
        """Record that the worker stops."""
        self.state = "stopped"
        self._show()

    def drain_endpoint(self) -> rpc.Endpoint[DrainRequest]:
        """Return the endpoint on which an operator drains this worker, and no other one."""
        return rpc.Endpoint(subjects.drain(self.name), DrainRequest, self._drain)

    async def _drain(self, _: DrainRequest) -> DrainReply:
        """Take no further job until a restart; the current one is finished. A second request changes nothing."""
        again = self.drained.is_set()
        if not again:
            log.info("worker.draining", extra={"worker": self.name, "job_id": self.job})
            self.drained.set()
            self.state = "draining"
            self._show()
        return DrainReply(worker=self.name, job=self.job, again=again)

    def _show(self) -> None:
        self.metadata |= {"state": self.state, "busy": "yes" if self.job else "no", "job": self.job or ""}
