"""Runs one delivered job and settles it. A job that is not settled comes back when its lease ends."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from services.a100worker.job.attempt import Attempt
from services.a100worker.job.photos import DecodedPhotos
from services.a100worker.job.progress import ProgressPublisher
from services.a100worker.job.results import drop_late_results
from services.a100worker.job.settlement import Settlement, reject_unreadable
from shared import subjects, telemetry, tracing
from shared.errors import ArtMancerError, BrokerUnavailable, CardLost, EngineFailed, EngineHung
from shared.image_codec import probe_in_thread
from shared.image_store import NatsImageStore
from shared.jobs import is_end
from shared.lifecycle import race
from shared.messages import JobWork
from shared.reading import read_or_skip

if TYPE_CHECKING:
    from services.a100worker.abilities import Abilities
    from services.a100worker.backend import Engine
    from services.a100worker.job.prefetch import Prefetcher
    from services.a100worker.presence import Presence
    from services.a100worker.settings import Settings
    from shared.bus import Bus, StoredMessage
    from shared.deliveries import Delivery
    from shared.image_store import CachedImageStore
    from shared.messages import Done

_LEAST_STEP_S = 1.0  # time for one step of the engine between a stop without a drain time and the hand-back
log = logging.getLogger(__name__)


class Runner:
    """Runs jobs on one engine, one at a time."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        images: CachedImageStore,
        engine: Engine,
        prefetcher: Prefetcher,
        abilities: Abilities,
        presence: Presence,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._images = images
        self._photos = DecodedPhotos(settings.photos_in_memory_bytes)
        self._remover = NatsImageStore(bus, probe_in_thread)
        self._engine = engine
        self._prefetcher = prefetcher
        self._abilities = abilities
        self._presence = presence

    async def run(self, delivery: Delivery, stop: asyncio.Event) -> None:
        """Run one delivered job and settle it.

        Raises BrokerUnavailable: the job is not settled and comes back when its lease ends. Raises EngineHung
        or CardLost: the job is settled, but neither the engine nor this runner can be used again.
        """
        work = read_or_skip(JobWork, delivery)
        if work is None:
            await reject_unreadable(self._bus, delivery)
            return
        context = tracing.extract(delivery.headers, work.submit.traceparent)
        with tracing.span("job.attempt", parent=context) as span, telemetry.log_context(job_id=work.job_id):
            span.set_attributes({"job.id": work.job_id, "job.task": work.submit.task, "job.delivery": delivery.attempt})
            with self._presence.working(work.job_id):
                await self._run_and_settle(work, delivery, stop)

    async def _run_and_settle(self, work: JobWork, delivery: Delivery, stop: asyncio.Event) -> None:
        if not await self._finish(work, delivery, stop):
            await drop_late_results(self._bus, self._remover, work)

    async def _finish(self, work: JobWork, delivery: Delivery, stop: asyncio.Event) -> bool:
        """Run the job and settle it. Return whether this attempt ended the job with its result."""
        progress = ProgressPublisher(self._bus, work.job_id)
        settlement = Settlement(self._settings, self._bus, work, delivery)

        # Subscribe before the start, so that no end is missed: the broker rejects the start of a job that ended
        # earlier.
        async with self._bus.subscribe(subjects.live_end(work.job_id), partial(_cancel_if_ended, progress)):
            if not await settlement.begin(self._engine.name):
                return False
            attempt = Attempt(
                settings=self._settings,
                bus=self._bus,
                images=self._images,
                photos=self._photos,
                engine=self._engine,
                work=work,
                number=settlement.attempt,
                progress=progress,
            )
            try:
                done = await self._run_attempt(attempt, delivery, stop)
            except BrokerUnavailable:
                raise
            except ArtMancerError as error:
                await settlement.fail(error, stopping=stop.is_set())
                if isinstance(error, EngineHung | CardLost):
                    raise
            except Exception:  # the job boundary: the worker survives every exception of an engine
                log.exception("job.crashed", extra={"job_id": work.job_id, "attempt": settlement.attempt})
                await settlement.fail(EngineFailed(), stopping=stop.is_set())
            else:
                self._abilities.record(work.submit.task, done.duration_ms)
                return await settlement.end(done)
            return False

    async def _run_attempt(self, attempt: Attempt, delivery: Delivery, stop: asyncio.Event) -> Done:
        """Run the attempt. Meanwhile extend the lease, watch for a stop, prefetch the next job and publish events."""
        beside = [
            asyncio.create_task(self._extend_lease(delivery), name="job.lease"),
            asyncio.create_task(self._prefetcher.run(delivery.seq), name="job.prefetch"),
        ]
        publishing = asyncio.create_task(attempt.progress.publish(), name="job.progress")
        try:
            attempting, _ = await race(attempt.run(), self._cancel_at_stop(attempt.progress, stop))
            done: Done = attempting.result()
            attempt.progress.finish()
            await publishing
            return done
        finally:
            for task in (*beside, publishing):
                task.cancel()
            await asyncio.gather(*beside, publishing, return_exceptions=True)

    async def _extend_lease(self, delivery: Delivery) -> None:
        """Extend the lease from the event loop, because the engine's thread may be in native code for minutes."""
        while True:
            await asyncio.sleep(self._settings.streams.lease_s / 3)
            try:
                await delivery.extend()
            except BrokerUnavailable:
                log.warning("job.lease-not-extended")

    async def _cancel_at_stop(self, progress: ProgressPublisher, stop: asyncio.Event) -> None:
        """Cancel the job at the end of the drain time, early enough to hand it back.

        Raises EngineHung if the engine does not end then: on a busy machine one step may take longer.
        """
        await stop.wait()
        await asyncio.sleep(self._settings.drain_s - self._settings.hand_back_s)
        progress.cancel_flag.set()
        await asyncio.sleep(max(self._settings.hand_back_s / 2, _LEAST_STEP_S))
        raise EngineHung


def _cancel_if_ended(progress: ProgressPublisher, stored: StoredMessage) -> None:
    if is_end(stored):
        progress.cancel_flag.set()
