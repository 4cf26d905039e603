"""An edit before and after, as PNG whatever the upload was."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from shared.errors import BadImage, NotFound
from shared.messages import Done

if TYPE_CHECKING:
    from services.gateway.deps import Deps
    from shared.messages import JobRecord

_AS_IT_IS = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})  # modes that PNG and browsers know


async def original(deps: Deps, record: JobRecord) -> bytes:
    """Return the upload of a job. Raises NotFound, BrokerUnavailable."""
    submission = await deps.jobs.submission_of(record)
    if submission is None:
        raise NotFound("What this job was made from is not known any more.")
    return await deps.uploads.unpack(as_png, await deps.images.get("inputs", submission.image))


async def generated(deps: Deps, record: JobRecord) -> bytes:
    """Return the result of a job. Raises NotFound, BrokerUnavailable."""
    if not isinstance(record.ended, Done):
        raise NotFound("This job has no result.")
    return await deps.uploads.unpack(as_png, await deps.images.get("results", record.ended.result.sha256))


def as_png(data: bytes) -> bytes:
    """Return the picture upright and as PNG; one that is PNG already stays as it is. Raises BadImage."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.format == "PNG":
                return data
            upright = ImageOps.exif_transpose(picture)
            shown = upright if upright.mode in _AS_IT_IS else upright.convert("RGB")
            file = io.BytesIO()
            shown.save(file, "PNG", compress_level=1)
    except OSError as error:
        raise BadImage("The picture is damaged or cut short.") from error
    return file.getvalue()
