"""Requests renditions of results and uploads from the image service. The gateway opens no picture itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from services.gateway.v1.job_views import write_receipt
from shared import rpc, subjects
from shared.errors import NotFound
from shared.marks import REMOVED
from shared.messages import Done, RenditionReply, RenditionRequest
from shared.topology import OWNED

if TYPE_CHECKING:
    from services.gateway.core.jobs import Jobs
    from services.gateway.core.uploads import Uploads
    from shared.bus import Bus
    from shared.messages import ImageRef, JobRecord

Encoded = Literal["png", "jpeg", "webp", "avif"]
Format = Literal["original", Encoded]
_MOST_EDITS = 64  # of one photo, one after another


@dataclass(frozen=True, slots=True)
class Wanted:
    """The rendition that a client wants; `gps` says whether GPS data stay in it."""

    format: Format
    quality: int | None
    gps: bool


class Renditions:
    """Gives pictures in other formats. All methods raise Busy, TooLarge, Unavailable, BrokerUnavailable."""

    def __init__(self, bus: Bus, jobs: Jobs, uploads: Uploads, timeout_s: float) -> None:
        self._bus = bus
        self._jobs = jobs
        self._uploads = uploads
        self._timeout_s = timeout_s

    async def of_result(self, owner: str, record: JobRecord, done: Done, wanted: Wanted) -> RenditionReply:
        """Return the rendition of a result, with the metadata of the photo that was uploaded."""
        receipt = write_receipt(record, done, await self._jobs.submission_of(record))
        upload = await self._find_upload(owner, record)
        return await self._request(done.result, upload, wanted, hashlib.sha256(receipt).hexdigest())

    async def of_image(self, ref: ImageRef, wanted: Wanted) -> RenditionReply:
        """Return the rendition of an upload, upright."""
        return await self._request(ref, ref.sha256, wanted)

    async def _request(
        self, image: ImageRef, upload: str | None, wanted: Wanted, receipt: str | None = None
    ) -> RenditionReply:
        request = RenditionRequest(
            image=image, upload=upload, format=wanted.format, quality=wanted.quality, gps=wanted.gps, receipt=receipt
        )
        return await rpc.call(
            self._bus, subjects.IMG_RENDITION, request, RenditionReply, timeout_s=self._timeout_s
        )  # fmt: skip

    async def _find_upload(self, owner: str, record: JobRecord) -> str | None:
        """Return the photo that a client uploaded first; None if the owner has it no more.

        A photo that is edited again is uploaded as the PNG of its last result. Its format and metadata are those of the
        upload before all its edits, as far as the owner still has these.
        """
        found: str | None = None
        seen = {record.job_id}  # an edit that changes nothing has its own input as result
        for _ in range(_MOST_EDITS):
            submission = await self._jobs.submission_of(record)
            ref = None if submission is None else await self._uploads.find(owner, submission.image)
            if ref is None:
                break
            found = ref.sha256
            earlier = await self._find_job(owner, record.user, found) if ref.content_type == "image/png" else None
            if earlier is None or earlier.job_id in seen:
                break
            seen.add(earlier.job_id)
            record = earlier
        return found

    async def _find_job(self, owner: str, user: str, result: str) -> JobRecord | None:
        """Return a job of the owner that gave this result."""
        for mark in await self._bus.history(OWNED, subjects.result_marks_by(user, result)):
            if mark.data == REMOVED:
                continue
            try:
                record = await self._jobs.find(owner, subjects.job_of_result_mark(mark.subject))
            except NotFound:
                continue
            if isinstance(record.ended, Done) and record.ended.result.sha256 == result:
                return record
        return None
