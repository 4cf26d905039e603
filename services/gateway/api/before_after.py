"""The original and the result of a job, as PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from shared.errors import BadImage, NotFound
from shared.messages import Done

if TYPE_CHECKING:
    from services.gateway.core.jobs import Jobs
    from services.gateway.core.uploads import Uploads
    from shared.image_store import ImageStore
    from shared.messages import JobRecord

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})  # modes that PNG and browsers support


async def load_original(jobs: Jobs, images: ImageStore, uploads: Uploads, record: JobRecord) -> bytes:
    """Return the upload of a job. Raises NotFound, BrokerUnavailable."""
    submission = await jobs.submission_of(record)
    if submission is None:
        raise NotFound("The submission of this job has expired.")
    return await uploads.run_decoder(to_png, await images.get("inputs", submission.image))


def require_done(record: JobRecord) -> Done:
    """Return the terminal event of a job that has a result. Raises NotFound."""
    if not isinstance(record.ended, Done):
        raise NotFound("This job has no result.")
    return record.ended


async def load_result(images: ImageStore, uploads: Uploads, done: Done) -> bytes:
    """Return the result of a job. Raises ImageNotFound, BrokerUnavailable."""
    return await uploads.run_decoder(to_png, await images.get("results", done.result.sha256))


def to_png(data: bytes) -> bytes:
    """Return the image as PNG with its EXIF rotation applied; return a PNG unchanged. Raises BadImage."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format == "PNG":
                return data
            upright = ImageOps.exif_transpose(image)
            shown = upright if upright.mode in _PNG_MODES else upright.convert("RGB")
            file = io.BytesIO()
            shown.save(file, "PNG", compress_level=1)
    except OSError as error:
        raise BadImage("The image is damaged or incomplete.") from error
    return file.getvalue()
