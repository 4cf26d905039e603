"""The original and the result of a job, as PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import NotFound
from shared.messages import Done

if TYPE_CHECKING:
    from services.gateway.core.jobs import Jobs
    from services.gateway.decoding.decoders import Decoders
    from shared.image_store import ImageStore
    from shared.messages import JobRecord

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


async def load_original(jobs: Jobs, images: ImageStore, decoders: Decoders, record: JobRecord) -> bytes:
    """Return the upload of a job. Raises NotFound, BrokerUnavailable."""
    submission = await jobs.submission_of(record)
    if submission is None:
        raise NotFound("The submission of this job has expired.")
    return await to_png(decoders, await images.get("inputs", submission.image))


def require_done(record: JobRecord) -> Done:
    """Return the terminal event of a job that has a result. Raises NotFound."""
    if not isinstance(record.ended, Done):
        raise NotFound("This job has no result.")
    return record.ended


async def load_result(images: ImageStore, decoders: Decoders, done: Done) -> bytes:
    """Return the result of a job. Raises ImageNotFound, BrokerUnavailable."""
    return await to_png(decoders, await images.get("results", done.result.sha256))


async def to_png(decoders: Decoders, data: bytes) -> bytes:
    """Return the image as PNG with its EXIF rotation applied; return a PNG unchanged. Raises BadImage, TooLarge."""
    return data if data.startswith(PNG_SIGNATURE) else await decoders.convert_to_png(data)
