"""The image utilities: read images by reference, process them in threads, and return references."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from services.imageutils.assembly import Assembler
from services.imageutils.cut_out import cut_out_in_place
from services.imageutils.extract import cut_out_object, extract_object
from services.imageutils.renditions.requests import Renditions
from services.imageutils.shadow import Shadow, add_shadow
from services.imageutils.signing import ManifestSigner
from services.imageutils.white_balance import auto_gains, auto_table, balance_auto, balance_manual
from shared import deadlines, declaring, rpc, subjects
from shared.bus import open_bus
from shared.colour import SRGB
from shared.derived import Derived
from shared.errors import BadImage
from shared.image_codec import decode_mask, decode_photo, encode_png, probe_in_thread
from shared.image_formats import report_missing_decoders
from shared.image_memory import ImageSlots, picture_bytes
from shared.image_store import NatsImageStore
from shared.lifecycle import run_unless_stopped
from shared.listener import serve_probes
from shared.messages import (
    AssembleRequest,
    ExtractRequest,
    HealthReply,
    HealthRequest,
    ImageRef,
    ImageReply,
    LightReply,
    LightRequest,
    RenditionRequest,
    ShadowRequest,
    WhiteBalanceRequest,
)
from shared.transparency import own_colours, put_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.imageutils.settings import Settings
    from shared.colour import Colour
    from shared.derived import Source
    from shared.image_codec import Rgb, Rgba
    from shared.image_store import ImageStore

    Picture: TypeAlias = tuple[Rgb | Rgba, Colour]
    """Pixels, and the meaning of their values."""

NAME = "imageutils"
_SHADOW_BYTES = 300_000_000  # floats of the largest picture with a shadow, 2048 px a side


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve requests until `stop` is set."""
    signer = ManifestSigner.open(settings.signing_certificate_file, settings.signing_key_file)
    async with serve_probes(settings.probe, stop) as probes, open_bus(settings.nats, NAME, wait=False) as bus:
        probes.require(bus.ping)
        await run_unless_stopped(stop, declaring.wait_until_declared(bus))
        images = NatsImageStore(bus, probe_in_thread)
        slots = ImageSlots(images, settings.at_once, settings.memory_bytes)
        derived = Derived(bus, images)
        handlers = Handlers(images, derived, slots)
        renditions, assembler = Renditions(images, derived, slots, signer), Assembler(images, derived, slots)
        endpoints = _endpoints(handlers, renditions, assembler, settings, signer)
        named = {"instance": settings.instance}
        async with rpc.serve(bus, NAME, endpoints, drain_s=settings.drain_s, metadata=named):
            probes.mark_started()
            await stop.wait()


class Handlers:
    """Handles requests within the number and the memory of `slots`. All methods raise ImageNotFound."""

    def __init__(self, images: ImageStore, derived: Derived, slots: ImageSlots) -> None:
        self._images = images
        self._derived = derived
        self._slots = slots

    async def extract(self, request: ExtractRequest) -> ImageReply:
        """Cut an object out: in a square, white or transparent, or at its place in the photo."""
        return await self._make(partial(_extract, request), request.image, request.mask)

    async def shadow(self, request: ShadowRequest) -> ImageReply:
        """Show an extracted object with a soft shadow on a light ground."""
        shadow = Shadow(request.offset_x_px, request.offset_y_px, request.opacity, request.blur_px)
        return await self._make(partial(_add_shadow, shadow), request.image, request.mask, least_bytes=_SHADOW_BYTES)

    async def white_balance(self, request: WhiteBalanceRequest) -> ImageReply:
        """Correct the colour cast, or return the table that corrects it."""
        if request.small_png is not None:
            return await self._make(partial(_make_table, request.small_png, request.strength, request.temperature))
        return await self._make(partial(_balance, request), request.image)

    async def estimate_light(self, request: LightRequest) -> LightReply:
        """Estimate the gains of an automatic white balance. Raises BadImage."""
        image = request.image
        async with self._slots.enter(least_bytes=picture_bytes(image)):
            deadlines.check()
            data = await self._images.get(image.bucket, image.sha256)
            red, green, blue = await asyncio.to_thread(_estimate_gains, data)
            return LightReply(gains=(red, green, blue))

    async def _make(self, work: Callable[..., Picture], *images: str | None, least_bytes: int = 0) -> ImageReply:
        """Call `work` with the bytes of the images, and store the picture that it returns."""
        # Fetch inside: a request that waits holds no bytes.
        async with self._slots.enter(*images, least_bytes=least_bytes):
            deadlines.check()
            data = [None if sha256 is None else await self._images.get("inputs", sha256) for sha256 in images]
            png, ref = await asyncio.to_thread(lambda: _encode(work(*data)))
            sources: list[Source] = [("inputs", sha256) for sha256 in images if sha256 is not None]
            return ImageReply(png=await self._derived.put(png, ref, *sources))


def _extract(request: ExtractRequest, image: bytes, mask: bytes) -> Picture:
    grey = decode_mask(mask)  # first, because the decoded mask is smaller than the photo
    photo = decode_photo(image, with_alpha=request.transparent or bool(request.in_place))
    if request.in_place:
        return cut_out_in_place(photo, grey), photo.colour
    cut = cut_out_object(photo, grey) if request.transparent else extract_object(photo.rgb, grey)
    return cut, photo.colour


def _add_shadow(shadow: Shadow, image: bytes, mask: bytes | None) -> Picture:
    grey = None if mask is None else decode_mask(mask)
    photo = decode_photo(image)
    return add_shadow(photo.rgb, grey, shadow), photo.colour


def _balance(request: WhiteBalanceRequest, image: bytes) -> Picture:
    photo = decode_photo(image, with_alpha=True)
    colours, rgba, colour = own_colours(photo), photo.rgba, photo.colour
    del photo  # frees a third copy of the image
    if request.method == "auto":
        balanced = balance_auto(colours, request.strength, colour)
    else:
        balanced = balance_manual(colours, request.temperature, request.tint, request.strength)
    return put_back(rgba, balanced), colour


def _estimate_gains(image: bytes) -> list[float]:
    photo = decode_photo(image, with_alpha=True)
    return [float(gain) for gain in auto_gains(own_colours(photo), photo.colour)]


def _make_table(small_png: str, strength: float, temperature: float) -> Picture:
    """Return the table as an image of 256 x 1 px. Raises BadImage."""
    try:
        data = base64.b64decode(small_png, validate=True)
    except ValueError as error:
        raise BadImage("The small copy of the image is not base64.") from error
    return auto_table(decode_photo(data).rgb, strength, temperature=temperature)[None], SRGB


def _encode(picture: Picture) -> tuple[bytes, ImageRef]:
    pixels, colour = picture
    png = encode_png(pixels, colour)
    height, width = pixels.shape[:2]
    ref = ImageRef(
        bucket="cache",
        sha256=hashlib.sha256(png).hexdigest(),
        content_type="image/png",
        width=width,
        height=height,
        size_bytes=len(png),
    )
    return png, ref


def _endpoints(
    handlers: Handlers,
    renditions: Renditions,
    assembler: Assembler,
    settings: Settings,
    signer: ManifestSigner | None,
) -> list[rpc.Endpoint[Any]]:
    missing = report_missing_decoders()

    async def health(_: HealthRequest) -> HealthReply:
        problem = "" if signer is None else signer.problem
        detail = missing if signer is None else missing | {"signing": problem or f"until {signer.expiry}"}
        status: Literal["healthy", "degraded"] = "degraded" if problem else "healthy"
        return HealthReply(service=NAME, instance=settings.instance, status=status, detail=detail)

    limit = settings.in_flight
    return [
        rpc.Endpoint(subjects.health(NAME), HealthRequest, health, everywhere=True),
        rpc.Endpoint(subjects.IMG_ASSEMBLE, AssembleRequest, assembler.assemble, limit),
        rpc.Endpoint(subjects.IMG_EXTRACT, ExtractRequest, handlers.extract, limit),
        rpc.Endpoint(subjects.IMG_RENDITION, RenditionRequest, renditions.make, limit),
        rpc.Endpoint(subjects.IMG_SHADOW, ShadowRequest, handlers.shadow, limit),
        rpc.Endpoint(subjects.IMG_WHITE_BALANCE, WhiteBalanceRequest, handlers.white_balance, limit),
        rpc.Endpoint(subjects.IMG_ESTIMATE_LIGHT, LightRequest, handlers.estimate_light, limit),
    ]
