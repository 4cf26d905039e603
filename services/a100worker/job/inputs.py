"""Fetches and decodes the inputs of a job into the arrays that engines work on."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar, assert_never

import cv2
import numpy as np

from services.a100worker.backend import InsertionInputs, RemovalInputs, WhiteBalanceInputs
from services.a100worker.imaging.reference import marks_something
from shared import rpc, subjects
from shared.colour import to_space, to_srgb
from shared.colour_tables import apply_table, shrink
from shared.deep_pixels import KEPT
from shared.errors import ArtMancerError, JobCancelled
from shared.image_codec import decode_mask, decode_photo, encode_png
from shared.messages import ImageReply, SaliencyReply, SaliencyRequest, Task, WhiteBalanceRequest
from shared.tasks import require_images
from shared.transparency import own_colours

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from services.a100worker.backend import TaskInputs
    from services.a100worker.cancel_flag import CancelFlag
    from services.a100worker.job.photos import DecodedPhotos
    from shared.bus import Bus
    from shared.colour import Colour
    from shared.image_codec import Grey, Photo, Rgb
    from shared.image_store import ImageStore
    from shared.messages import JobSubmit

T = TypeVar("T")
Files: TypeAlias = dict[str, bytes]
"""The images of a job as they were stored, by the field of the submission that names them."""
_OPTIONS = {"prompt", "negative_prompt", "seed", "steps", "guidance", "flow_match", "debug"}
_TIMEOUT_S = 30.0
_TABLE = (1, 256, 3)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The inputs of an engine, and the photo, whose colour space, transparency and depth the result gets."""

    inputs: TaskInputs
    photo: Photo
    notes: list[str]


class ServiceCalls:
    """Calls other services for one job, from the engine's thread. Construct it on the event loop."""

    def __init__(self, bus: Bus, images: ImageStore, cancel_flag: CancelFlag) -> None:
        self._bus = bus
        self._images = images
        self._cancel_flag = cancel_flag
        self._loop = asyncio.get_running_loop()
        self._balanced: tuple[Rgb, Rgb] | None = None

    def fetch_saliency(self, sha256: str | None) -> Grey | None:
        """Return the saliency map of an image, or None if there is none. Raises JobCancelled."""
        return self._wait_for(_fetch_saliency(self._bus, self._images, sha256))

    def fetch_balanced(self, submission: JobSubmit, image: Rgb, colour: Colour) -> Rgb:
        """Return the job's image, white-balanced in its own colour space. Raises JobCancelled, Unavailable."""
        small = base64.b64encode(encode_png(to_srgb(shrink(image), colour))).decode()
        reply = self._wait_for(_fetch_balanced(self._bus, self._images, submission, small))
        if reply.shape != _TABLE:
            return reply  # from an image service of the previous release, which balances the image itself
        self._balanced = apply_table(image, reply[0]), reply[0]
        return self._balanced[0]

    def table_of(self, image: Rgb) -> Rgb | None:
        """Return the table (256, 3) of an image that `fetch_balanced` returned; None for another image."""
        return self._balanced[1] if self._balanced is not None and self._balanced[0] is image else None

    def _wait_for(self, call: Coroutine[object, object, T]) -> T:
        """Run the call on the event loop and wait for it. A cancel ends the wait at once and raises JobCancelled."""
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        with self._cancel_flag.on_set(future.cancel):
            try:
                return future.result(_TIMEOUT_S)
            except concurrent.futures.CancelledError as error:
                raise JobCancelled from error


async def fetch_files(submission: JobSubmit, images: ImageStore) -> Files:
    """Fetch all images of a job at once. Raises BadInput, ImageNotFound, BrokerUnavailable."""
    require_images(submission.task, mask=submission.mask, reference=submission.reference)
    hashes = submission.image_hashes()
    files = await asyncio.gather(*(images.get("inputs", sha256) for sha256 in hashes.values()))
    return dict(zip(hashes, files, strict=True))


def decode(submission: JobSubmit, files: Files, calls: ServiceCalls, photos: DecodedPhotos) -> Decoded:
    """Decode all images of a job. Blocks: call it from the engine's thread. Raises BadImage."""
    photo = photos.get(submission.image, files["image"])
    notes = list(photo.notes)
    return Decoded(_inputs(submission, photo, files, calls, notes), photo, notes)


def _inputs(submission: JobSubmit, photo: Photo, files: Files, calls: ServiceCalls, notes: list[str]) -> TaskInputs:
    """Return the inputs of the job's task, and add the notes on further images."""
    options = submission.model_dump(include=_OPTIONS)
    image = photo.rgb
    match submission.task:
        case Task.REMOVAL:
            return RemovalInputs(
                image=image,
                mask=_resize_mask(decode_mask(files["mask"]), image),
                exact_mask=submission.exact_mask or False,
                variant=submission.variant or 0,
                mask_tool=submission.mask_tool,
                fetch_saliency=lambda: calls.fetch_saliency(submission.image),
                **options,
            )
        case Task.INSERTION:
            reference, reference_mask = _decode_reference(files, photo.colour, notes)
            return InsertionInputs(
                image=image,
                mask=_resize_mask(decode_mask(files["mask"]), image),
                reference=reference,
                reference_mask=reference_mask,
                fetch_reference_saliency=lambda: calls.fetch_saliency(submission.reference),
                **options,
            )
        case Task.WHITE_BALANCE:
            colours = own_colours(photo)
            return WhiteBalanceInputs(
                image=colours,
                strength=submission.strength,
                fetch_balanced=lambda: calls.fetch_balanced(submission, colours, photo.colour),
                **options,
            )
    assert_never(submission.task)


def _decode_reference(files: Files, colour: Colour, notes: list[str]) -> tuple[Rgb, Grey | None]:
    """Return the reference in the photo's colour space, and its mask: that of the request, or else its transparency."""
    reference = decode_photo(files["reference"], with_alpha=True)
    notes += [f"reference: {note}" for note in reference.notes if note != KEPT]
    mask = decode_mask(files["reference_mask"]) if "reference_mask" in files else None
    if reference.rgba is not None and not marks_something(mask):
        mask = np.ascontiguousarray(reference.rgba[..., 3])
    return to_space(reference.rgb, reference.colour, colour), mask


def _resize_mask(mask: Grey, image: Rgb) -> Grey:
    height, width = image.shape[:2]
    if mask.shape == (height, width):
        return mask
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


async def _fetch_saliency(bus: Bus, images: ImageStore, sha256: str | None) -> Grey | None:
    """Return the saliency map; None if it cannot be fetched, because an edit works without it, only less well."""
    if sha256 is None:
        return None
    try:
        reply = await rpc.call(
            bus, subjects.SEG_SALIENCY, SaliencyRequest(image=sha256), SaliencyReply, timeout_s=_TIMEOUT_S / 2
        )
        if reply.png is None:
            return None
        data = await images.get("cache", reply.png.sha256)
    except ArtMancerError:
        return None
    return await asyncio.to_thread(decode_mask, data)


async def _fetch_balanced(bus: Bus, images: ImageStore, submission: JobSubmit, small: str) -> Rgb:
    """Return the table that balances the image, of shape (1, 256, 3). Raises Unavailable."""
    request = WhiteBalanceRequest(
        image=submission.image, small_png=small, strength=submission.strength, temperature=submission.temperature or 0.0
    )
    reply = await rpc.call(bus, subjects.IMG_WHITE_BALANCE, request, ImageReply, timeout_s=_TIMEOUT_S / 2)
    data = await images.get("cache", reply.png.sha256)
    return (await asyncio.to_thread(decode_photo, data)).rgb
