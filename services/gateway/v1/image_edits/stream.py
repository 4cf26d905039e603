"""The events of a streamed edit: previews as `image_edit.partial_image`, results as `image_edit.completed`."""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import pydantic_core

from services.gateway.core.pieces import join_parts, wrap_picture
from services.gateway.v1.image_edits.batch import failure_of, outcome_of
from services.gateway.v1.image_edits.schemas import no_usage
from services.gateway.v1.job_views import progress_of
from shared.errors import ArtMancerError, Stopping
from shared.jobs import fold
from shared.messages import Preview

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from services.gateway.core.job_frames import JobFrames
    from services.gateway.core.jobs import Jobs
    from services.gateway.v1.image_edits.batch import Batch, Outcome
    from services.gateway.v1.image_edits.rendering import Rendering
    from shared.image_store import StreamedStore
    from shared.messages import ImageRef, JobEvent, JobRecord

_PARTIAL, _COMPLETED = "image_edit.partial_image", "image_edit.completed"


class EditStream:
    """The source of an event stream, see http/sse.py. Job after job: its previews, then its result.

    OpenAI's clients end a stream at an event with an error, so failures follow after the last result, in one event.
    """

    def __init__(
        self,
        jobs: Jobs,
        images: StreamedStore,
        batch: Batch,
        rendering: Rendering,
        size: str,
        heartbeat_s: float,
        ready: list[Outcome],
    ) -> None:
        """`ready` are outcomes that need no job; they come first."""
        self._jobs = jobs
        self._images = images
        self._batch = batch
        self._rendering = rendering
        self._fields = rendering.fields
        self._size = size
        self._heartbeat_s = heartbeat_s
        self._ready = deque(ready)
        self._waiting = deque(batch.job_ids)
        self._count = len(ready) + len(batch.job_ids)
        self._number = 0  # of the image at hand
        self._failures: list[tuple[int, Outcome]] = []
        self._job: _Previews | None = None
        self._pieces: AsyncGenerator[bytes, None] | None = None
        self._is_lost = False
        self._has_ended = False

    @property
    def has_ended(self) -> bool:
        """See Source."""
        return self._has_ended

    async def next(self) -> tuple[list[bytes], bool]:
        """See Source. After `stop` it cancels the jobs that have not ended."""
        if self._is_lost:
            await self._abandon()
        elif self._pieces is not None:
            return await self._next_piece(self._pieces), False
        elif self._ready:
            await self._begin_result(self._ready.popleft())
        elif self._job is not None:
            return await self._follow(self._job)
        elif self._waiting:
            await self._open(self._waiting.popleft())
        else:
            self._has_ended = True
            return self._describe_failures(), False
        return [], False

    def stop(self) -> None:
        """See Source."""
        self._is_lost = True
        if self._job is not None:
            self._job.frames.stop()

    def close(self) -> None:
        """See Source."""
        if self._job is not None:
            self._job.frames.close()

    async def _open(self, job_id: str) -> None:
        try:
            record = await self._jobs.with_broker(partial(self._jobs.find, self._batch.owner, job_id))
        except ArtMancerError as error:
            await self._begin_result(failure_of(job_id, error))
            return
        if record.ended is not None:  # of an earlier request with the same key; its events may have expired
            await self._begin_result(outcome_of(job_id, record.ended))
        else:
            self._job = _Previews(self._jobs, job_id, self._fields.partial_images, self._facts(), self._heartbeat_s)

    async def _follow(self, job: _Previews) -> tuple[list[bytes], bool]:
        frames, heartbeat = await job.frames.next()
        if job.frames.has_ended and not self._is_lost:
            job.frames.close()
            self._job = None
            ended = None if job.record is None else job.record.ended
            if ended is None:  # the gateway stops
                await self._batch.cancel(self._jobs)
            outcome = failure_of(job.job_id, Stopping()) if ended is None else outcome_of(job.job_id, ended)
            await self._begin_result(outcome)
        return frames, heartbeat

    async def _begin_result(self, outcome: Outcome) -> None:
        self._number += 1
        outcome = await self._rendering.render(outcome)
        if outcome.result is None:
            self._failures.append((self._number, outcome))
            return
        facts = {**self._facts(), "output_format": self._fields.output_format, "usage": no_usage()}
        facts |= {"safety_identifier": self._fields.identifier} if self._fields.identifier else {}
        before, after = wrap_picture({"type": _COMPLETED, **facts, "job_id": outcome.job_id})
        head, tail = f"event: {_COMPLETED}\ndata: ".encode() + before, after + b"\n\n"
        parts: list[bytes | ImageRef] = [head, outcome.result, tail]
        self._pieces = join_parts(self._images, parts)

    async def _next_piece(self, pieces: AsyncGenerator[bytes, None]) -> list[bytes]:
        try:
            return [await anext(pieces)]
        except StopAsyncIteration:
            self._pieces = None
            return []

    async def _abandon(self) -> None:
        if self._pieces is not None:
            await self._pieces.aclose()
            self._pieces = None
        await self._batch.cancel(self._jobs)
        self._has_ended = True

    def _describe_failures(self) -> list[bytes]:
        if not self._failures:
            return []
        errors = [outcome.error or {} for _, outcome in self._failures]
        told = [f"Image {number} of {self._count}: {error['message']}" for (number, _), error in
                zip(self._failures, errors, strict=True)]  # fmt: skip
        sentence = errors[0]["message"] if self._count == 1 else " ".join(told)
        return [_frame("error", {"error": {**errors[0], "message": sentence}})]

    def _facts(self) -> dict[str, Any]:
        return {"created_at": int(time.time()), "size": self._size, "quality": "auto", "background": "auto"}


class _Previews:
    """The previews of one job: at most `count`, spread over its progress, the first one at once."""

    def __init__(self, jobs: Jobs, job_id: str, count: int, facts: dict[str, Any], heartbeat_s: float) -> None:
        self.job_id = job_id
        self.record: JobRecord | None = None
        self._count = count
        self._sent = 0
        self._facts = facts
        self.frames: JobFrames = jobs.open_frames(job_id, 0, self._frame, heartbeat_s)

    def _frame(self, seq: int, event: JobEvent) -> bytes:
        self.record = fold(self.record, event, seq)
        if not isinstance(event, Preview) or self._sent >= self._count:
            return b""
        if progress_of(self.record) < self._sent / self._count:
            return b""
        number, self._sent = self._sent, self._sent + 1
        facts = {**self._facts, "created_at": int(event.at), "output_format": "jpeg"}
        return _frame(
            _PARTIAL, {"type": _PARTIAL, "b64_json": event.jpeg_base64, "partial_image_index": number, **facts}
        )


def _frame(name: str, facts: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: ".encode() + pydantic_core.to_json(facts) + b"\n\n"
