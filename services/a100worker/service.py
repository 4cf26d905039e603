"""A worker: loads its engine, then receives, runs and settles one job at a time until a stop."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

from services.a100worker import backend, metrics
from services.a100worker.abilities import Abilities
from services.a100worker.job.poller import Poller
from services.a100worker.job.prefetch import Prefetcher
from services.a100worker.job.runner import Runner
from services.a100worker.presence import Presence
from shared import declaring, rpc, subjects
from shared.bus import open_bus
from shared.errors import BrokerUnavailable, EngineHung
from shared.image_codec import probe_in_thread
from shared.image_formats import report_missing_decoders
from shared.image_memory import give_back
from shared.image_store import CachedImageStore, NatsImageStore
from shared.lifecycle import race, run_unless_stopped
from shared.listener import serve_probes
from shared.messages import HealthReply, HealthRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from services.a100worker.backend import Engine
    from services.a100worker.settings import Settings
    from shared.bus import Bus

NAME = "a100worker"
_RETRY_DELAY_S = 0.1  # a deleted consumer is declared again at once
log = logging.getLogger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until a stop. Hand back a job that does not end within the drain time. Raises EngineHung, CardLost."""
    async with serve_probes(settings.probe, stop) as probes, open_bus(settings.nats, NAME, wait=False) as bus:
        probes.require(bus.ping)
        await run_unless_stopped(stop, declaring.wait_until_declared(bus))
        presence = Presence(settings.name, settings.backend)
        readiness = _Readiness(settings, presence, stop)
        endpoints: list[rpc.Endpoint[Any]] = [
            rpc.Endpoint(subjects.health(NAME), HealthRequest, readiness.health, everywhere=True),
            presence.drain_endpoint(),
        ]
        async with rpc.serve(bus, NAME, endpoints, metadata=presence.metadata):
            try:
                engine = await asyncio.to_thread(backend.load, settings.backend, settings, readiness.report_phase)
            except _StoppedWhileLoading:
                return
            readiness.mark_loaded(engine.name, backend.facts_of(engine))
            presence.note_engine(engine)
            probes.mark_started()
            log.info("engine.ready", extra={"engine": engine.name, "worker": settings.name})
            async with _close_after(engine):
                await _work(settings, bus, engine, presence, stop)


@asynccontextmanager
async def _close_after(engine: Engine) -> AsyncIterator[None]:
    try:
        yield
    except EngineHung:
        raise  # the engine's thread still runs, so `close` is not safe
    except BaseException:
        await asyncio.to_thread(engine.close)
        raise
    await asyncio.to_thread(engine.close)


class _StoppedWhileLoading(Exception):
    """Ends the loading of an engine at a stop."""


class _Readiness:
    """The health of the worker: ready, or the phase of its engine's loading."""

    def __init__(self, settings: Settings, presence: Presence, stop: asyncio.Event) -> None:
        self.phase: str | None = "starting"
        self._since = time.monotonic()
        self.engine = settings.backend
        self._presence = presence
        self._stop = stop
        self._facts: dict[str, str] = {}
        self._missing = report_missing_decoders()

    def report_phase(self, phase: str) -> None:
        """Record the phase that begins; called from the engine's thread. Raises after a stop, to end the loading."""
        self._begin_phase(phase)
        log.info("engine.loading", extra={"engine": self.engine, "phase": phase})
        if self._stop.is_set():
            raise _StoppedWhileLoading

    def mark_loaded(self, engine: str, facts: Mapping[str, str]) -> None:
        """Record that the engine is ready, with the facts that it reports about itself."""
        self._begin_phase(None)
        self.engine, self._facts = engine, dict(facts)
        metrics.ENGINE.labels(engine).set(1)

    def _begin_phase(self, phase: str | None) -> None:
        now = time.monotonic()
        metrics.LOAD_SECONDS.labels(self.phase).set(now - self._since)
        self.phase, self._since = phase, now

    async def health(self, _: HealthRequest) -> HealthReply:
        """Return the health of this worker."""
        detail = {"engine": self.engine, **self._missing, **self._facts}
        if self.phase is not None:
            detail["phase"] = self.phase
        if self._presence.drained.is_set():
            detail["drained"] = "takes no job until it is restarted"
        status: Literal["starting", "healthy"] = "starting" if self.phase else "healthy"
        return HealthReply(service=NAME, instance=self._presence.name, status=status, detail=detail)


async def _work(settings: Settings, bus: Bus, engine: Engine, presence: Presence, stop: asyncio.Event) -> None:
    abilities = Abilities(presence, engine)
    try:
        await race(_take_jobs(settings, bus, engine, abilities, presence, stop), abilities.announce(bus))
    except EngineHung:
        if stop.is_set():  # the job was handed back, so announce the end: gateways must not count the worker as lost
            await _announce_end(bus, abilities, presence)
        raise
    await _announce_end(bus, abilities, presence)


async def _announce_end(bus: Bus, abilities: Abilities, presence: Presence) -> None:
    presence.end()
    await abilities.announce_once(bus)  # otherwise the gateways would count it as lost


async def _take_jobs(
    settings: Settings, bus: Bus, engine: Engine, abilities: Abilities, presence: Presence, stop: asyncio.Event
) -> None:
    images = CachedImageStore(NatsImageStore(bus, probe_in_thread), "inputs", settings.inputs_in_memory_bytes)
    async with Poller(bus, idle_poll_s=settings.idle_poll_s, affinity_s=settings.affinity_s) as poller:
        runner = Runner(settings, bus, images, engine, Prefetcher(bus, images, poller.order), abilities, presence)
        while not stop.is_set():
            if presence.drained.is_set():
                await stop.wait()
                return
            try:
                delivery = await poller.receive(stop, presence.drained)
                if delivery is not None and presence.drained.is_set():
                    await delivery.retry()  # the worker was drained while the broker was sending the job
                elif delivery is not None:
                    await runner.run(delivery, stop)
                    give_back()
            except BrokerUnavailable as error:
                log.warning("worker.interrupted", extra={"reason": error.message})
                await _wait_for_broker(settings, bus, stop)


async def _wait_for_broker(settings: Settings, bus: Bus, stop: asyncio.Event) -> None:
    """Wait until the broker is connected. The job manager creates lost streams again."""
    await race(bus.up.wait(), stop.wait(), timeout_s=settings.idle_poll_s)
    if bus.is_connected and not stop.is_set():
        await asyncio.sleep(_RETRY_DELAY_S)
