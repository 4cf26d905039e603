"""Requests renditions of results and uploads from the image service. The gateway opens no picture itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from services.gateway.v1.job_views import write_receipt
from shared import rpc, subjects
from shared.messages import RenditionReply, RenditionRequest

if TYPE_CHECKING:
    from services.gateway.core.jobs import Jobs
    from services.gateway.core.uploads import Uploads
    from services.gateway.v1.results.chains import Chains, Step
    from shared.bus import Bus
    from shared.messages import Done, ImageRef, JobRecord, JobSubmit

Encoded = Literal["png", "jpeg", "webp", "avif"]
Format = Literal["original", Encoded]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The requested rendition; with `gps` it keeps GPS data."""

    format: Format
    quality: int | None
    gps: bool


class Renditions:
    """Gives pictures in other formats. All methods raise Busy, TooLarge, Unavailable, BrokerUnavailable."""

    def __init__(self, bus: Bus, jobs: Jobs, uploads: Uploads, chains: Chains, timeout_s: float) -> None:
        self._bus = bus
        self._jobs = jobs
        self._chains = chains
        self._uploads = uploads
        self._timeout_s = timeout_s

    async def of_result(self, owner: str, record: JobRecord, done: Done, wanted: Wanted) -> RenditionReply:
        """Return the rendition of a result, with the metadata of the photo that was uploaded."""
        submission = await self._jobs.submission_of(record)
        earlier = await self._chains.steps_before(owner, record, submission)
        receipt = write_receipt(record, done, submission, earlier)
        upload = await self._find_upload(owner, submission, earlier)
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

    async def _find_upload(self, owner: str, submission: JobSubmit | None, earlier: list[Step]) -> str | None:
        """Return the photo that a client uploaded first; None if the owner has it no more.

        A photo that is edited again is uploaded as the PNG of its last result. So its format and metadata come from the
        earliest image in the chain of edits that the owner still has.
        """
        edits = [submission, *(step.known.submission for step in earlier if step.known)]
        for edit in reversed(edits):
            ref = None if edit is None else await self._uploads.find(owner, edit.image)
            if ref is not None:
                return ref.sha256
        return None
