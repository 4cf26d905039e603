"""A patch that is laid over the photo is the whole result, bit for bit, for every kind of file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.a100worker.backend import Edit, WhiteBalanceInputs, blend
from services.a100worker.imaging.placement import Box
from services.a100worker.job.inputs import Decoded
from services.a100worker.job.outputs import encode
from shared.image_codec import decode_photo
from shared.source_types import SourceType, build_packet, find_source_type
from tests.browser import coloured_files, odd_files
from tests.unit.services.a100worker.recorder import noise

if TYPE_CHECKING:
    from services.a100worker.job.outputs import Output
    from shared.image_codec import Grey, Photo, Rgb

FILES = coloured_files.files() | odd_files.files()


def decode(photo: Photo) -> Decoded:
    """Return the inputs of a job without notes; the engine's own do not matter here."""
    return Decoded(WhiteBalanceInputs(image=photo.rgb, fetch_balanced=lambda: photo.rgb), photo, [])


def edit_once(photo: Photo, region: Grey | None, seed: int = 1) -> Output:
    """Return the output of an edit that paints noise into a region."""
    painted = noise(photo.rgb.shape[0], photo.rgb.shape[1], seed)
    image = painted if region is None else blend(photo.rgb, painted, region)
    return encode(Edit(image, region), decode(photo), {})


def region_of(shape: tuple[int, ...], seed: int) -> Grey:
    """Return a soft region of at most a quarter of the pixels."""
    random = np.random.default_rng(seed)
    height, width = (max(1, side // 2) for side in shape[:2])
    top, left = random.integers(0, shape[0] - height + 1), random.integers(0, shape[1] - width + 1)
    region = np.zeros(shape[:2], np.uint8)
    region[top : top + height, left : left + width] = random.integers(0, 256, (height, width), np.uint8)
    return region


def raw(png: bytes) -> Rgb:
    """Return the values of a file with 8 or 16 bits, and nothing that they mean."""
    stored = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    order = cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(stored, order))


@given(name=st.sampled_from(sorted(FILES)), seed=st.integers(0, 99))
def test_a_patch_over_the_photo_is_the_result(name: str, seed: int) -> None:
    """Colours, opacity and the meaning of both, upright."""
    photo = decode_photo(FILES[name], with_alpha=True, with_depth=True)
    output = edit_once(photo, region_of(photo.rgb.shape, seed), seed)
    assert output.patch is not None
    over, box = photo.pixels.copy(), output.changed_box
    over[box.slices] = raw(output.patch.png)
    whole = raw(output.result.png)

    assert np.array_equal(over, whole)
    assert whole.dtype == over.dtype
    assert decode_photo(output.patch.png).colour == decode_photo(output.result.png).colour
    assert (output.patch.width, output.patch.height) == (box.width, box.height)
    assert output.changed_outside_px == 0


@given(name=st.sampled_from(sorted(FILES)), seed=st.integers(0, 99))
def test_a_result_is_kept_as_its_file_is_decoded(name: str, seed: int) -> None:
    """Pixels, colours and notes; one with opacity or 16 bits is decoded from its file."""
    photo = decode_photo(FILES[name], with_alpha=True, with_depth=True)
    output = edit_once(photo, region_of(photo.rgb.shape, seed), seed)
    fresh = decode_photo(output.result.png, with_alpha=True, with_depth=True)

    if photo.rgba is not None or photo.deep is not None:
        assert output.photo is None
        return
    assert output.photo is not None
    assert np.array_equal(output.photo.rgb, fresh.rgb)
    assert (output.photo.colour, output.photo.notes) == (fresh.colour, fresh.notes)
    assert (fresh.rgba, fresh.deep) == (None, None)


@pytest.mark.parametrize(
    "region",
    [None, np.full((80, 120), 255, np.uint8), np.zeros((80, 120), np.uint8)],
    ids=["the whole photo", "all of it", "nothing"],
)
def test_a_patch_that_would_save_little_is_not_made(region: Grey | None) -> None:
    """The whole result serves."""
    photo = decode_photo(odd_files.save(Image.new("RGB", (120, 80)), "PNG"))
    output = edit_once(photo, region)

    assert output.patch is None
    assert output.changed_box == Box(0, 0, 120, 80)


def test_an_engine_that_changes_more_than_it_says_gives_no_patch() -> None:
    """A patch would hide that from the client."""
    photo = decode_photo(odd_files.save(Image.new("RGB", (120, 80)), "PNG"))
    region = np.zeros((80, 120), np.uint8)
    region[10:20, 10:20] = 255

    output = encode(Edit(noise(80, 120), region), decode(photo), {})

    assert output.changed_outside_px > 0
    assert (output.patch, output.changed_box) == (None, Box(0, 0, 120, 80))


def test_a_result_states_what_its_photo_and_its_reference_are_made_of() -> None:
    """The mask is no part of it, whatever it states."""
    photo, mark = decode_photo(FILES["jpeg"]), build_packet(SourceType.NETWORK)
    region = region_of(photo.rgb.shape, 1)
    edit = Edit(blend(photo.rgb, noise(*photo.rgb.shape[:2]), region), region)
    pasted, masked = (encode(edit, decode(photo), {"image": b"", name: mark}) for name in ("reference", "mask"))

    assert pasted.patch is not None
    assert pasted.source_type == SourceType.COMPOSITE_WITH_NETWORK
    assert find_source_type(pasted.result.png) == find_source_type(pasted.patch.png) == pasted.source_type
    assert masked.source_type == SourceType.COMPOSITE
