"""One job, from delivery to acknowledgement: it is settled here, or it comes back when its lease ends."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from services.a100worker import backend, metrics
from services.a100worker.job.debug_sessions import store_session
from services.a100worker.job.inputs import Files, Questions, decode, read
from services.a100worker.job.progress import Reporter
from services.a100worker.job.results import outside_changes, store_png
from services.a100worker.job.settlement import Settlement, refuse
from shared import subjects, telemetry, tracing
from shared.errors import ArtMancerError, BrokerUnavailable, EngineFailed, EngineHung
from shared.image_codec import encode_png
from shared.messages import Done, JobWork

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from services.a100worker.backend import Edit, Engine
    from services.a100worker.job.prefetch import LookAhead
    from services.a100worker.settings import Settings
    from shared.bus import Bus, StoredMessage
    from shared.deliveries import Delivery
    from shared.image_store import ImageStore
    from shared.messages import JobSubmit

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Made:
    """An edit, and when it was made (monotonic seconds)."""

    edit: Edit
    png: bytes
    changed_outside_px: int
    decoded_at: float
    edited_at: float


class Runner:
    """Runs jobs on one engine. Not for two jobs at a time."""

    def __init__(self, settings: Settings, bus: Bus, images: ImageStore, engine: Engine, ahead: LookAhead) -> None:
        self._settings = settings
        self._bus = bus
        self._images = images
        self._engine = engine
        self._ahead = ahead

    async def run(self, delivery: Delivery, stop: asyncio.Event) -> None:
        """Run one delivered job and settle it.

        Raises BrokerUnavailable, and then the lease brings the job back. Raises EngineHung, with the job settled, when
        the engine is still in the middle of it: neither can be used again.
        """
        try:
            work = JobWork.model_validate_json(delivery.data)
        except ValidationError:
            await refuse(self._bus, delivery)
            return
        context = tracing.extract(delivery.headers, work.submit.traceparent)
        with tracing.span("job.attempt", parent=context) as span, telemetry.log_context(job_id=work.job_id):
            span.set_attributes({"job.id": work.job_id, "job.task": work.submit.task, "job.delivery": delivery.attempt})
            metrics.BUSY.set(1)
            try:
                await self._run(work, delivery, stop)
            finally:
                metrics.BUSY.set(0)

    async def _run(self, work: JobWork, delivery: Delivery, stop: asyncio.Event) -> None:
        reporter = Reporter(self._bus, work.job_id)
        settlement = Settlement(self._settings, self._bus, work, delivery)

        def end(_: StoredMessage) -> None:
            reporter.cancelled.set()

        # Listen first: whatever ends the job before it is started, the broker refuses the start.
        async with self._bus.subscribe(subjects.live_end(work.job_id), end):
            if not await settlement.begin(self._engine.name):
                return
            try:
                done = await self._attempt(work, settlement.attempt, delivery, reporter, stop)
            except BrokerUnavailable:
                raise
            except ArtMancerError as error:
                await settlement.fail(error, stopping=stop.is_set())
                if isinstance(error, EngineHung):
                    raise
            except Exception:  # the job boundary: whatever an engine throws, the worker lives on
                log.exception("job.crashed", extra={"job_id": work.job_id, "attempt": settlement.attempt})
                await settlement.fail(EngineFailed(), stopping=stop.is_set())
            else:
                await settlement.end(done)

    async def _attempt(
        self, work: JobWork, attempt: int, delivery: Delivery, reporter: Reporter, stop: asyncio.Event
    ) -> Done:
        started = time.monotonic()
        side = [
            asyncio.create_task(self._hold(delivery), name="job.hold"),
            asyncio.create_task(self._watch(stop, reporter), name="job.watch"),
            asyncio.create_task(self._ahead.run(delivery.seq), name="job.look-ahead"),
        ]
        publishing = asyncio.create_task(reporter.publish(), name="job.progress")
        try:
            done = await self._edit(work, attempt, reporter, started)
            reporter.finish()
            await publishing
            return done
        finally:
            for task in (*side, publishing):
                task.cancel()
            await asyncio.gather(*side, publishing, return_exceptions=True)

    async def _edit(self, work: JobWork, attempt: int, reporter: Reporter, started: float) -> Done:
        with tracing.span("job.fetch"):
            files = await read(work.submit, self._images)
        questions = Questions(self._bus, self._images, reporter.cancelled)
        made = await self._heard(asyncio.to_thread(self._make, work.submit, files, questions, reporter), reporter)
        with tracing.span("job.store"):
            result = await store_png(self._images, "results", made.png, made.edit.image)
        stored = time.monotonic()
        took, name = _ms(stored - started), self._engine.name
        session = None
        if work.submit.debug:
            session = await store_session(
                self._bus, self._images, work, made.edit, result, engine=name, duration_ms=took
            )
        timings_ms = {
            "fetch": _ms(made.decoded_at - started),
            "edit": _ms(made.edited_at - made.decoded_at),
            "store": _ms(stored - made.edited_at),
        }
        metrics.took(work.submit.task, timings_ms)
        return Done(
            job_id=work.job_id,
            worker=self._settings.name,
            engine=name,
            attempt=attempt,
            result=result,
            duration_ms=took,
            seed=work.submit.seed,
            changed_outside_px=made.changed_outside_px,
            timings_ms=timings_ms,
            debug=session,
        )

    async def _heard(self, making: Coroutine[None, None, _Made], reporter: Reporter) -> _Made:
        """Wait for the engine as long as it says something now and then. Raises EngineHung."""
        thread = asyncio.create_task(making, name="job.engine")
        try:
            while (left_s := self._settings.silence_s - reporter.silent_s) > 0:
                await asyncio.wait({thread}, timeout=left_s)
                if thread.done():
                    return thread.result()
        finally:
            thread.cancel()  # which ends the waiting, not the thread
        reporter.cancelled.set()
        raise EngineHung

    def _make(self, submit: JobSubmit, files: Files, questions: Questions, reporter: Reporter) -> _Made:
        """From files to a file, in one go in the engine's thread: each change of threads costs a tenth of a no-op."""
        loaded = decode(submit, files, questions)
        decoded_at = time.monotonic()
        with tracing.span("job.edit"):
            edit = backend.edit(self._engine, loaded.inputs, reporter)
        edited_at = time.monotonic()
        png = encode_png(edit.image, loaded.icc)
        return _Made(edit, png, outside_changes(loaded.inputs.image, edit), decoded_at, edited_at)

    async def _hold(self, delivery: Delivery) -> None:
        """Keep the lease; not from the engine's thread, which may be deep in native code."""
        while True:
            await asyncio.sleep(self._settings.streams.lease_s / 3)
            try:
                await delivery.extend()
            except BrokerUnavailable:
                log.warning("job.lease-not-extended")

    async def _watch(self, stop: asyncio.Event, reporter: Reporter) -> None:
        """When the service stops, let the job finish within the drain time, then stop it to hand it back."""
        await stop.wait()
        await asyncio.sleep(self._settings.drain_s - self._settings.hand_back_s)
        reporter.cancelled.set()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
