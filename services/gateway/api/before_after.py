"""The original and the result of a job, as PNG."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse

from services.gateway.core.pieces import prepend
from services.gateway.http.image_response import whole_image
from shared.errors import ImageNotFound, NotFound
from shared.messages import Done

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from services.gateway.core.jobs import Jobs
    from services.gateway.core.uploads import Uploads
    from services.gateway.decoding.decoders import Decoders
    from shared.image_store import StreamedStore
    from shared.messages import ImageRef, JobRecord

_PNG = "image/png"
_PIECE_BYTES = 512 * 1024


async def find_original(jobs: Jobs, uploads: Uploads, images: StreamedStore, owner: str, record: JobRecord) -> ImageRef:
    """Return the image of a job, which may be an earlier result. Raises NotFound, ImageNotFound, BrokerUnavailable."""
    submission = await jobs.submission_of(record)
    if submission is None:
        raise NotFound("The submission of this job has expired.")
    ref = await images.head("inputs", submission.image)
    ref = ref or await uploads.find_with_results(owner, submission.image)
    if ref is None:
        raise ImageNotFound
    return ref


async def find_generated(uploads: Uploads, images: StreamedStore, owner: str, record: JobRecord) -> ImageRef:
    """Return the result of a job, which can be read. Raises NotFound, ImageNotFound, BrokerUnavailable."""

    async def read(ref: ImageRef) -> ImageRef:
        async with aclosing(images.stream(ref.bucket, ref.sha256)) as pieces:
            await anext(pieces)  # a missing result must not cut off an archive
        return ref

    return await uploads.read_result(owner, require_done(record).result, read)


def require_done(record: JobRecord) -> Done:
    """Return the terminal event of a job that has a result. Raises NotFound."""
    if not isinstance(record.ended, Done):
        raise NotFound("This job has no result.")
    return record.ended


async def png_response(images: StreamedStore, decoders: Decoders, ref: ImageRef) -> Response:
    """Return the image as in `png_pieces`."""
    if ref.content_type == _PNG:
        return await whole_image(images, ref, {})
    pieces = png_pieces(images, decoders, ref)
    first = await anext(pieces)  # before the response: it may be missing
    return StreamingResponse(prepend(first, pieces), media_type=_PNG)


async def png_pieces(images: StreamedStore, decoders: Decoders, ref: ImageRef) -> AsyncGenerator[bytes, None]:
    """Yield the image as PNG with its EXIF rotation applied, a PNG unchanged.

    Raises ImageNotFound, BadImage, TooLarge, Busy, BrokerUnavailable.
    """
    if ref.content_type == _PNG:
        async with aclosing(images.stream(ref.bucket, ref.sha256)) as stored:
            async for piece in stored:
                yield piece
        return
    async with decoders.room_for_png(ref.width * ref.height):
        png = await decoders.convert_to_png(await images.get(ref.bucket, ref.sha256))
        for at in range(0, len(png), _PIECE_BYTES):
            yield png[at : at + _PIECE_BYTES]
