"""A reference comes in the photo's colour space, and its transparency is its mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from services.a100worker.backend import InsertionInputs
from services.a100worker.job.inputs import decode
from services.a100worker.job.photos import DecodedPhotos
from shared.colour import SRGB, Colour
from shared.image_codec import encode_png
from shared.messages import JobSubmit, Task
from tests.browser.coloured_files import profiles

if TYPE_CHECKING:
    from services.a100worker.job.inputs import Files, ServiceCalls

NAME = "a" * 64
PHOTO = np.full((30, 40, 3), 90, np.uint8)
MASK = np.full((30, 40), 255, np.uint8)
RED = np.zeros((20, 20, 4), np.uint8)
RED[5:15, 5:15] = [255, 0, 0, 255]


def insertion(photo_colour: Colour = SRGB, **more: bytes) -> InsertionInputs:
    """Return the decoded inputs of an insertion of a red square with a transparent ground."""
    files: Files = {
        "image": encode_png(PHOTO, photo_colour), "mask": encode_png(MASK), "reference": encode_png(RED), **more
    }  # fmt: skip
    submission = JobSubmit(task=Task.INSERTION, **dict.fromkeys(files, NAME))
    decoded = decode(submission, files, cast("ServiceCalls", None), DecodedPhotos(0)).inputs
    assert isinstance(decoded, InsertionInputs)
    return decoded


def test_transparency_is_the_mask() -> None:
    """The empty corners are not inserted."""
    job = insertion()

    assert job.reference_mask is not None
    assert np.array_equal(job.reference_mask, RED[..., 3])


def test_a_mask_that_was_sent_counts_more() -> None:
    """If it marks anything."""
    sent = np.zeros((20, 20), np.uint8)
    sent[8:10, 8:10] = 255

    marked, erased = insertion(reference_mask=encode_png(sent)), insertion(reference_mask=encode_png(0 * sent))

    assert marked.reference_mask is not None
    assert np.array_equal(marked.reference_mask, sent)
    assert erased.reference_mask is not None
    assert np.array_equal(erased.reference_mask, RED[..., 3])


def test_an_opaque_reference_has_no_mask() -> None:
    """The engine looks for the object itself."""
    assert insertion(reference=encode_png(PHOTO)).reference_mask is None


def test_the_reference_is_brought_into_the_photos_space() -> None:
    """The red of sRGB is a weaker red in a photo of a wide display."""
    assert insertion().reference[10, 10].tolist() == [255, 0, 0]
    assert np.abs(insertion(Colour(profiles()["wide"])).reference[10, 10].astype(int) - [234, 51, 35]).max() <= 1
