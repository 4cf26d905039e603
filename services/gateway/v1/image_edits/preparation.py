"""Checks the pictures of an edit and stores them. All are checked before one of them is stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.v1.image_edits.refusal import Refused, refusing
from services.gateway.v1.image_edits.words import choose_words
from services.gateway.v1.schemas import JobSubmission
from shared.messages import Task

if TYPE_CHECKING:
    from services.gateway.core.uploads import Upload, Uploads
    from services.gateway.core.workers import Workers
    from services.gateway.v1.image_edits.form import EditForm
    from services.gateway.v1.image_edits.schemas import EditFields
    from shared.messages import ImageRef

_MOST_IMAGES = 2
_NO_IMAGE = "Send the photo as a file in the field image."
_NO_MASK = (
    "Send a mask: a PNG of the photo's size whose transparent pixels mark the region to edit. "
    "Edits without a mask are not supported."
)


@dataclass(frozen=True, slots=True)
class PreparedEdit:
    """An edit with stored pictures. Without a submission there is nothing to edit: `unchanged` is the result."""

    width: int
    height: int
    submission: JobSubmission | None
    unchanged: ImageRef | None = None

    @property
    def size(self) -> str:
        """The size of the photo and of the result, as OpenAI's API writes it."""
        return f"{self.width}x{self.height}"


async def prepare(uploads: Uploads, workers: Workers, owner: str, form: EditForm) -> PreparedEdit:
    """Check and store the pictures. Raises Refused, Busy, BrokerUnavailable, Unavailable.

    A mask that protects everything leaves the photo as it is: it is stored as PNG, and no job is needed.
    """
    task = _choose_task(form)
    prompt = await choose_words(workers, task, form.fields.prompt)
    with refusing("image"):
        photo = await uploads.read_bytes(form.images[0], "Image")
        reference = await uploads.read_bytes(form.images[1], "Image 2") if task is Task.INSERTION else None
    _check_size(form.fields, photo)
    with refusing("mask"):
        mask, is_empty = await uploads.read_alpha_mask(form.mask or b"", "Mask")
    _check_mask(mask, photo)
    width, height = photo.ref.width, photo.ref.height
    if is_empty:
        with refusing("image"):
            unchanged = await uploads.convert_to_png(photo, "Image")
        await uploads.store(owner, unchanged)
        return PreparedEdit(width, height, None, unchanged.ref)
    pictures = {"image": photo, "mask": mask, "reference": reference}
    present = {name: upload for name, upload in pictures.items() if upload is not None}
    stored = await asyncio.gather(*(uploads.store(owner, upload) for upload in present.values()))
    submission = JobSubmission.model_validate(
        {"task": task, "prompt": prompt, "exact_mask": True, **dict(zip(present, stored, strict=True))}
    )
    return PreparedEdit(width, height, submission)


def _choose_task(form: EditForm) -> Task:
    if not form.images:
        raise Refused("missing_required_parameter", _NO_IMAGE, "image")
    if len(form.images) > _MOST_IMAGES:
        sentence = f"There are {len(form.images)} images; send the photo and at most one reference."
        raise Refused("too_many_images", sentence, "image")
    if form.mask is None:
        raise Refused("missing_required_parameter", _NO_MASK, "mask")
    return Task.REMOVAL if len(form.images) == 1 else Task.INSERTION


def _check_size(fields: EditFields, photo: Upload) -> None:
    own = f"{photo.ref.width}x{photo.ref.height}"
    if fields.size not in {"auto", own}:
        sentence = f"The result has the size of the photo, {own}: leave out the field size, or send that."
        raise Refused("unsupported_size", sentence, "size")


def _check_mask(mask: Upload, photo: Upload) -> None:
    if (mask.ref.width, mask.ref.height) != (photo.ref.width, photo.ref.height):
        raise Refused(
            "invalid_mask_size",
            f"The mask has {mask.ref.width} x {mask.ref.height} pixels and the photo {photo.ref.width} x "
            f"{photo.ref.height}; send a mask of the photo's size.",
            "mask",
        )
