"""A worker: loads its engine, then receives, runs and settles one job at a time until told to stop."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from services.a100worker import backend, metrics
from services.a100worker.job.intake import Intake
from services.a100worker.job.prefetch import LookAhead
from services.a100worker.job.runner import Runner
from shared import declaring, rpc, subjects
from shared.bus import open_bus
from shared.errors import BrokerUnavailable, EngineHung
from shared.image_store import CachedImageStore, NatsImageStore
from shared.lifecycle import race, run_unless_stopped
from shared.listener import serve_probes
from shared.messages import HealthReply, HealthRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.a100worker.backend import Engine
    from services.a100worker.settings import Settings
    from shared.bus import Bus

NAME = "a100worker"
_PAUSE_S = 0.1  # a consumer that was deleted is made anew at once
log = logging.getLogger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until told to stop; a job that does not end within the drain time is handed back. Raises EngineHung."""
    async with serve_probes(settings.probe, stop) as probes, open_bus(settings.nats, NAME, wait=False) as bus:
        probes.require(bus.ping)
        await run_unless_stopped(stop, declaring.wait_until_declared(bus))
        readiness = _Readiness(settings, stop)
        async with rpc.serve(bus, NAME, [rpc.Endpoint(subjects.health(NAME), HealthRequest, readiness.health)]):
            try:
                engine = await asyncio.to_thread(backend.load, settings.backend, settings, readiness.loading)
            except _StoppedWhileLoading:
                return
            readiness.loaded(engine.name)
            probes.mark_started()
            log.info("engine.ready", extra={"engine": engine.name, "worker": settings.name})
            async with _closing(engine):
                await _work(settings, bus, engine, stop)


@asynccontextmanager
async def _closing(engine: Engine) -> AsyncIterator[None]:
    try:
        yield
    except EngineHung:
        raise  # its thread is still inside
    except BaseException:
        await asyncio.to_thread(engine.close)
        raise
    await asyncio.to_thread(engine.close)


class _StoppedWhileLoading(Exception):
    """Nobody waits for the engine any more."""


class _Readiness:
    """What the worker says of itself; while its engine loads, which of the phases that takes it has come to."""

    def __init__(self, settings: Settings, stop: asyncio.Event) -> None:
        self.phase: str | None = "starting"
        self._since = time.monotonic()
        self.engine = settings.backend
        self._name = settings.name
        self._stop = stop

    def loading(self, phase: str) -> None:
        """Note the phase, from the engine's thread; raises to end the loading when the worker is told to stop."""
        self._begin(phase)
        log.info("engine.loading", extra={"engine": self.engine, "phase": phase})
        if self._stop.is_set():
            raise _StoppedWhileLoading

    def loaded(self, engine: str) -> None:
        """Note that the engine can work."""
        self._begin(None)
        self.engine = engine
        metrics.ENGINE.labels(engine).set(1)

    def _begin(self, phase: str | None) -> None:
        now = time.monotonic()
        metrics.LOAD_SECONDS.labels(self.phase).set(now - self._since)
        self.phase, self._since = phase, now

    async def health(self, _: HealthRequest) -> HealthReply:
        """Answer an operator."""
        detail = {"engine": self.engine}
        if self.phase is not None:
            detail["phase"] = self.phase
        status: Literal["starting", "healthy"] = "starting" if self.phase else "healthy"
        return HealthReply(service=NAME, instance=self._name, status=status, detail=detail)


async def _work(settings: Settings, bus: Bus, engine: Engine, stop: asyncio.Event) -> None:
    pictures = CachedImageStore(NatsImageStore(bus), "inputs", settings.inputs_in_memory_bytes)
    async with Intake(bus, idle_poll_s=settings.idle_poll_s, affinity_s=settings.affinity_s) as intake:
        runner = Runner(settings, bus, pictures, engine, LookAhead(bus, pictures, intake.lines))
        while not stop.is_set():
            try:
                delivery = await intake.receive(stop)
                if delivery is not None:
                    await runner.run(delivery, stop)
            except BrokerUnavailable as error:
                log.warning("worker.interrupted", extra={"reason": error.message})
                await _mended(settings, bus, stop)


async def _mended(settings: Settings, bus: Bus, stop: asyncio.Event) -> None:
    """Wait for the broker; what it may have lost, the job manager makes anew."""
    await race(bus.up.wait(), stop.wait(), timeout_s=settings.idle_poll_s)
    if bus.is_connected and not stop.is_set():
        await asyncio.sleep(_PAUSE_S)
