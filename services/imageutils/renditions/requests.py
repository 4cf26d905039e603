"""Answers requests for renditions. Each is made once, within the service's memory, and stored in bucket `cache`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from services.imageutils.renditions import png_file
from services.imageutils.renditions.carried import is_lossless_webp
from services.imageutils.renditions.containers import Picture, choose_kind, estimate_bytes, kind_of
from services.imageutils.renditions.rendition import Wanted, encode_rendition
from services.imageutils.signing import Origin
from shared import deadlines
from shared.errors import BadMessage, ImageNotFound
from shared.image_formats import CONTENT_TYPES
from shared.image_source import format_of
from shared.image_store import digest
from shared.messages import ImageRef, RenditionReply
from shared.reading import read
from shared.source_types import find_source_type

if TYPE_CHECKING:
    from services.imageutils.renditions.rendition import Rendition
    from services.imageutils.signing import ManifestSigner
    from shared.derived import Derived
    from shared.image_memory import ImageSlots
    from shared.image_store import NatsImageStore
    from shared.messages import RenditionRequest
    from shared.source_types import SourceType

_BUCKET: Final = "cache"
NOT_SIGNED = "not signed: the format has no place for it"
_VERSION = 6  # of the encoders and the metadata code: raise it with each change of the bytes


class Renditions:
    """Makes renditions. All methods raise ImageNotFound, BrokerUnavailable."""

    def __init__(
        self, images: NatsImageStore, derived: Derived, slots: ImageSlots, signer: ManifestSigner | None = None
    ) -> None:
        """With a signer, renditions of results are signed."""
        self._images = images
        self._derived = derived
        self._slots = slots
        self._signer = signer

    async def make(self, request: RenditionRequest) -> RenditionReply:
        """Return the rendition of a stored image. Raises BadImage, TooLarge."""
        upload = None if request.upload is None else await self._images.describe(request.upload)
        key = _name_rendition(request, upload) + self._name_signature(request)
        if (kept := await self._find(key)) is not None:
            return kept
        image = request.image
        kind, _ = choose_kind(request.format, _kind_of(upload), Picture(image.width, image.height, transparent=False))
        decoded = image.sha256 if image.bucket == "inputs" else None
        least_bytes = estimate_bytes(kind, image, upload)
        if self._signs(request):  # the encoded file, the signed one and its copy, when the pixels are freed
            least_bytes = max(least_bytes, 3 * image.size_bytes)
        async with self._slots.enter(decoded, least_bytes=least_bytes):
            if (kept := await self._find(key)) is not None:  # made while this request waited
                return kept
            deadlines.check()
            reply = await self._make(request)
            await self._images.put_named(_BUCKET, key, reply.model_dump_json().encode())
            return reply

    async def _find(self, key: str) -> RenditionReply | None:
        """Return a stored rendition, if all its bytes are there."""
        data = await self._images.get_named(_BUCKET, key)
        if data is None:
            return None
        with suppress(BadMessage):
            reply = read(RenditionReply, data)
            if reply.image.bucket != _BUCKET or await self._derived.has(reply.image.sha256):
                return reply
        return None

    async def _make(self, request: RenditionRequest) -> RenditionReply:
        image = request.image
        pictures = [await self._images.get(image.bucket, image.sha256)]
        upload = await self._fetch_upload(request, pictures[0])
        signs = self._signs(request)
        source_type = await asyncio.to_thread(find_source_type, pictures[0]) if signs else None
        made = await asyncio.to_thread(_encode, request, pictures, upload)
        if signs:
            made = await asyncio.to_thread(self._sign, made, request, upload, source_type)
        sha256 = await digest(made.data)
        if sha256 == image.sha256:
            return RenditionReply(image=image.model_copy(update={"notes": made.notes or None}))
        ref = ImageRef(
            bucket=_BUCKET,
            sha256=sha256,
            content_type=made.content_type,
            width=made.width,
            height=made.height,
            size_bytes=len(made.data),
            notes=made.notes or None,
        )
        sources = [(image.bucket, image.sha256)]
        if upload is not None and request.upload is not None:
            sources.append(("inputs", request.upload))
        await self._derived.put(made.data, ref, *sources)
        return RenditionReply(image=ref)

    def _signs(self, request: RenditionRequest) -> bool:
        return self._signer is not None and not self._signer.problem and _is_result(request)

    def _name_signature(self, request: RenditionRequest) -> str:
        """Return the suffix of a signed rendition's name: its signer and its receipt."""
        if self._signer is None or not self._signs(request):
            return ""
        return f".{self._signer.digest}.{request.receipt or 'none'}"

    def _sign(
        self, made: Rendition, request: RenditionRequest, upload: bytes | None, source_type: SourceType | None
    ) -> Rendition:
        kind = None if upload is None else format_of(upload)
        origin = Origin(
            output=request.image.sha256,
            receipt=request.receipt,
            source_type=source_type,
            upload=upload,
            upload_type=CONTENT_TYPES[kind or "JPEG"],
            place=request.gps,
        )
        signed = None if self._signer is None else self._signer.sign(made.data, made.content_type, origin)
        return replace(made, notes=[*made.notes, NOT_SIGNED]) if signed is None else replace(made, data=signed)

    async def _fetch_upload(self, request: RenditionRequest, picture: bytes) -> bytes | None:
        if request.upload is None or request.upload == request.image.sha256:
            return picture if request.upload else None
        with suppress(ImageNotFound):  # then only the upload's metadata are missing
            return await self._images.get("inputs", request.upload)
        return None


def _encode(request: RenditionRequest, pictures: list[bytes], upload: bytes | None) -> Rendition:
    """Make the rendition. Removes the picture from `pictures`, to free its memory early."""
    image = request.image
    upload_kind = None if upload is None else format_of(upload)
    header = png_file.read_header(pictures[0]) if _is_result(request) else None
    may_be_transparent = image.content_type != CONTENT_TYPES["JPEG"]
    picture = Picture(image.width, image.height, may_be_transparent) if header is None else header.picture
    lossless = upload is not None and upload_kind == "WEBP" and is_lossless_webp(upload)
    kind, notes = choose_kind(request.format, upload_kind, picture, lossless=lossless)
    wanted = Wanted(kind, request.quality, place=request.gps, lossless=lossless and request.format == "original")
    made = encode_rendition(pictures, upload, upload_kind, wanted, is_stored=_is_result(request))
    return replace(made, notes=[*notes, *made.notes])


def _is_result(request: RenditionRequest) -> bool:
    """Return whether a worker encoded the picture. Its copy may be in `inputs` or `cache` if the result was deleted."""
    return request.receipt is not None or request.image.bucket != "inputs"


def _name_rendition(request: RenditionRequest, upload: ImageRef | None) -> str:
    """Return the name under which a rendition is stored: its picture, then everything that its bytes depend on."""
    quality = 0 if request.format == "png" else request.quality or 0  # or one PNG would be stored for each quality
    facts = (request.format, f"q{quality}", "gps" if request.gps else "no-gps")
    name = ".".join((f"rendition-{_VERSION}", "none" if upload is None else upload.sha256, *facts))
    return f"{request.image.sha256}/{name}"


def _kind_of(upload: ImageRef | None) -> str | None:
    return None if upload is None else kind_of(upload.content_type)
