"""Turns the references in a job into the arrays that an engine works on."""

from __future__ import annotations

import asyncio
import concurrent.futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

from services.a100worker.backend import EditInputs
from shared import rpc, subjects
from shared.errors import ArtMancerError, BadInput, JobCancelled
from shared.image_codec import decode_mask, decode_photo
from shared.messages import ImageReply, JobSubmit, SaliencyReply, SaliencyRequest, Task, WhiteBalanceRequest

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from services.a100worker.cancel_flag import CancelFlag
    from shared.bus import Bus
    from shared.image_codec import Grey, Rgb
    from shared.image_store import ImageStore

T = TypeVar("T")
_ASK_S = 30.0


@dataclass(frozen=True, slots=True)
class Files:
    """The pictures of a job as they were stored."""

    image: bytes
    mask: bytes | None
    reference: bytes | None
    reference_mask: bytes | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an engine gets, and the colour profile that the result must carry again."""

    inputs: EditInputs
    icc: bytes | None


class Questions:
    """What an engine asks of other services, from its own thread. Made on the event loop, for one job."""

    def __init__(self, bus: Bus, images: ImageStore, cancelled: CancelFlag) -> None:
        self._bus = bus
        self._images = images
        self._cancelled = cancelled
        self._loop = asyncio.get_running_loop()

    def saliency(self, sha256: str | None) -> Grey | None:
        """Return what stands out in a picture, if anybody can tell. Raises JobCancelled."""
        return self._ask(_saliency(self._bus, self._images, sha256))

    def balanced(self, submit: JobSubmit) -> Rgb:
        """Return the job's image, white-balanced. Raises JobCancelled, Unavailable."""
        return self._ask(_balanced(self._bus, self._images, submit))

    def _ask(self, question: Coroutine[object, object, T]) -> T:
        """Wait for the event loop to answer. Raises JobCancelled at once when it comes."""
        answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        with self._cancelled.calling(answer.cancel):
            try:
                return answer.result(_ASK_S)
            except concurrent.futures.CancelledError as error:
                raise JobCancelled from error


async def read(submit: JobSubmit, images: ImageStore) -> Files:
    """Read all pictures of a job at once. Raises BadInput, ImageNotFound, BrokerUnavailable."""
    if submit.task is not Task.WHITE_BALANCE and submit.mask is None:
        raise BadInput("A mask is needed: mark the region to edit.")
    if submit.task is Task.INSERTION and submit.reference is None:
        raise BadInput("A reference photo is needed for insertion.")
    pictures = submit.image_hashes()
    files = await asyncio.gather(*(images.get("inputs", sha256) for sha256 in pictures.values()))
    names = dict(zip(pictures, files, strict=True))
    return Files(names["image"], *(names.get(name) for name in ("mask", "reference", "reference_mask")))


def decode(submit: JobSubmit, files: Files, questions: Questions) -> Loaded:
    """Decode all pictures of a job; for the engine's thread. Raises BadImage."""
    photo = decode_photo(files.image)
    return Loaded(
        EditInputs(
            task=submit.task,
            image=photo.rgb,
            mask=_fitted(None if files.mask is None else decode_mask(files.mask), photo.rgb),
            reference=None if files.reference is None else decode_photo(files.reference).rgb,
            reference_mask=None if files.reference_mask is None else decode_mask(files.reference_mask),
            prompt=submit.prompt,
            negative_prompt=submit.negative_prompt,
            seed=submit.seed,
            steps=submit.steps,
            guidance=submit.guidance,
            mask_tool=submit.mask_tool,
            strength=submit.strength,
            refine_fill=submit.refine_fill,
            flow_match=submit.flow_match,
            saliency=lambda: questions.saliency(submit.image),
            reference_saliency=lambda: questions.saliency(submit.reference),
            balanced=lambda: questions.balanced(submit),
        ),
        photo.icc,
    )


def _fitted(mask: Grey | None, image: Rgb) -> Grey | None:
    height, width = image.shape[:2]
    if mask is None or mask.shape == (height, width):
        return mask
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


async def _saliency(bus: Bus, images: ImageStore, sha256: str | None) -> Grey | None:
    """What stands out in the picture; an edit is better with it, and possible without."""
    if sha256 is None:
        return None
    try:
        reply = await rpc.call(
            bus, subjects.SEG_SALIENCY, SaliencyRequest(image=sha256), SaliencyReply, timeout_s=_ASK_S / 2
        )
        if reply.png is None:
            return None
        data = await images.get("cache", reply.png.sha256)
    except ArtMancerError:
        return None
    return await asyncio.to_thread(decode_mask, data)


async def _balanced(bus: Bus, images: ImageStore, submit: JobSubmit) -> Rgb:
    """Return the picture, balanced by the image utilities. Raises Unavailable when they are down."""
    request = WhiteBalanceRequest(image=submit.image, strength=submit.strength)
    reply = await rpc.call(bus, subjects.IMG_WHITE_BALANCE, request, ImageReply, timeout_s=_ASK_S / 2)
    data = await images.get("cache", reply.png.sha256)
    return (await asyncio.to_thread(decode_photo, data)).rgb
