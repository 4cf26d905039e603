"""One attempt at a job: fetch its images, run the engine in a thread, store the result."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from services.a100worker import backend, metrics
from services.a100worker.job.confinement import confine
from services.a100worker.job.debug_sessions import store_session
from services.a100worker.job.inputs import ServiceCalls, decode, fetch_files
from services.a100worker.job.outputs import encode
from services.a100worker.job.results import store_result
from shared import tracing
from shared.errors import Busy, EngineHung
from shared.messages import Done

if TYPE_CHECKING:
    from services.a100worker.backend import Edit, Engine, Provenance
    from services.a100worker.imaging.placement import Box
    from services.a100worker.job.inputs import Files
    from services.a100worker.job.outputs import Output
    from services.a100worker.job.photos import DecodedPhotos
    from services.a100worker.job.progress import ProgressPublisher
    from services.a100worker.job.results import File
    from services.a100worker.settings import Settings
    from shared.bus import Bus
    from shared.image_store import CachedImageStore
    from shared.messages import ImageRef, JobWork

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Finished:
    """An edit with its files. Times are monotonic seconds."""

    output: Output
    decoded_at: float
    edited_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at one job on this worker's engine."""

    settings: Settings
    bus: Bus
    images: CachedImageStore
    photos: DecodedPhotos
    engine: Engine
    work: JobWork
    number: int  # 1-based, over all workers
    progress: ProgressPublisher
    started_at: float = field(default_factory=time.monotonic)

    async def run(self) -> Done:
        """Run the job and return its terminal event, with the result stored.

        Raises EngineHung if the engine reports no step for `silence_s`; its thread goes on.
        """
        with tracing.span("job.fetch"):
            files = await fetch_files(self.work.submit, self.images)
        finished = await self._wait_for_engine(files)
        output = finished.output
        with tracing.span("job.store"):
            result = await store_result(self.bus, self.images, self.work, output.result)
            patch = None if output.patch is None else await self._store_patch(output.patch)
        self._keep(result, output)
        stored_at = time.monotonic()
        duration_ms = _ms(stored_at - self.started_at)
        timings_ms = {
            "fetch": _ms(finished.decoded_at - self.started_at),
            "edit": _ms(finished.edited_at - finished.decoded_at),
            "store": _ms(stored_at - finished.edited_at),
        }
        session = await self._store_session(output.edit, result, duration_ms) if self.work.submit.debug else None
        metrics.observe_phases(self.work.submit.task, timings_ms)
        return Done(
            job_id=self.work.job_id,
            worker=self.settings.name,
            engine=self.engine.name,
            attempt=self.number,
            result=result,
            duration_ms=duration_ms,
            seed=self.work.submit.seed,
            changed_outside_px=output.changed_outside_px,
            timings_ms=timings_ms,
            notes=output.notes or None,
            debug=session,
            source_type=output.source_type,
            changed_box=_numbers(output.changed_box),
            patch=patch,
            **_origin(output.edit.provenance),
        )

    async def _wait_for_engine(self, files: Files) -> _Finished:
        calls = ServiceCalls(self.bus, self.images, self.progress.cancel_flag)
        thread = asyncio.create_task(asyncio.to_thread(self._edit, files, calls), name="job.engine")
        try:
            while (left_s := self.settings.silence_s - self.progress.idle_s) > 0:
                await asyncio.wait({thread}, timeout=left_s)
                if thread.done():
                    return thread.result()
        finally:
            thread.cancel()  # ends only the wait: a thread cannot be ended
        self.progress.cancel_flag.set()
        raise EngineHung

    def _edit(self, files: Files, calls: ServiceCalls) -> _Finished:
        """Decode, edit and encode in the engine's thread. Each change of threads takes a tenth of a no-op edit."""
        decoded = decode(self.work.submit, files, calls, self.photos)
        decoded_at = time.monotonic()
        with tracing.span("job.edit"):
            inputs = decoded.inputs
            edit = backend.edit(self.engine, inputs, self.progress)
            if self.work.submit.exact_mask and isinstance(inputs, backend.RemovalInputs | backend.InsertionInputs):
                edit = confine(edit, inputs.image, inputs.mask)
        edited_at = time.monotonic()
        return _Finished(encode(edit, decoded, files, calls.table_of(edit.image)), decoded_at, edited_at)

    def _keep(self, result: ImageRef, output: Output) -> None:
        """Keep the result in memory, because users edit a retouched photo again at once."""
        if output.photo is not None:
            self.photos.keep(result.sha256, output.photo)
        self.images.keep(result.sha256, output.result.png)

    async def _store_patch(self, patch: File) -> ImageRef | None:
        """Store the patch; return None if the store is full: clients can use the whole result."""
        try:
            return await store_result(self.bus, self.images, self.work, patch)
        except Busy as error:
            log.warning("job.patch-skipped", extra={"job_id": self.work.job_id, "reason": error.message})
            return None

    async def _store_session(self, edit: Edit, result: ImageRef, duration_ms: int) -> str | None:
        """Store the debug session and return its name; None if the store is full: the job must still succeed."""
        try:
            return await store_session(
                self.bus, self.images, self.work, edit, result, engine=self.engine.name, duration_ms=duration_ms
            )
        except Busy as error:
            log.warning("job.debug-session-skipped", extra={"job_id": self.work.job_id, "reason": error.message})
            return None


def _origin(provenance: Provenance | None) -> dict[str, Any]:
    """Return the fields of Done for an edit by a model; an empty dictionary for other edits."""
    if provenance is None:
        return {}
    boxes = [_numbers(box) for box in provenance.windows]
    return {"recipe": provenance.recipe, "windows": boxes, "adapters": dict(provenance.adapters)}


def _numbers(box: Box) -> tuple[int, int, int, int]:
    return box.x, box.y, box.width, box.height


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
