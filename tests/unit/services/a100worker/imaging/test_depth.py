"""A photo with 16 bits a channel keeps them outside the edited region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.a100worker.backend import Edit
from services.a100worker.backends.classical.insertion import insert
from services.a100worker.backends.classical.removal import remove
from services.a100worker.imaging.depth import keep_depth
from services.a100worker.imaging.transparency import restore
from services.a100worker.job.results import count_outside_changes
from shared.colour_tables import apply_table
from shared.image_codec import Photo, decode_photo, encode_png
from shared.transparency import own_colours
from tests.unit.services.a100worker.recorder import Recorder, box_mask, insertion, photo, removal
from tests.unit.shared.deep_files import png, read_png, tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANDOM = np.random.default_rng(8)
HEIGHT, WIDTH = 60, 80
MASK = box_mask(HEIGHT, WIDTH, (20, 20, 45, 40))
IDENTITY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def smooth(channels: int) -> NDArray[np.uint16]:
    """Return a gradient with noise in the bits that 8-bit software loses; the opacity, if any, is of all kinds."""
    ramp = np.linspace(8000, 52_000, WIDTH)[None, :, None] + np.linspace(0, 6000, HEIGHT)[:, None, None]
    pixels = (ramp + RANDOM.integers(0, 700, (HEIGHT, WIDTH, channels))).astype(np.uint16)
    if channels in {2, 4}:
        pixels[..., -1] = 65535
        pixels[:8, :, -1] = np.arange(WIDTH) * 65535 // (WIDTH - 1)
        pixels[-4:, :, -1] = 0
    return pixels


def read(channels: int, kind: str) -> Photo:
    return decode_photo((png if kind == "png" else tiff)(smooth(channels)), with_alpha=True, with_depth=True)


def finish(source: Photo, edit: Edit, before: NDArray[np.uint8] | None = None) -> NDArray[np.uint16]:
    """Return the pixels of the file that the worker would store, after its own check."""
    result = keep_depth(source.deep, source.rgb if before is None else before, edit, restore(source.rgba, edit), None)
    assert count_outside_changes(source.pixels, result, edit.region) == 0
    return read_png(encode_png(result, source.colour))


@pytest.mark.parametrize(("channels", "kind"), [
    (1, "png"), (2, "png"), (3, "png"), (4, "png"), (1, "tiff"), (3, "tiff"), (4, "tiff")
])  # fmt: skip
@pytest.mark.parametrize("task", ["removal", "insertion"])
def test_outside_the_region_every_bit_stays(channels: int, kind: str, task: str) -> None:
    """Inside, the eight bits of the edit are widened to the whole range."""
    source = read(channels, kind)
    assert source.deep is not None
    if task == "removal":
        edit = remove(removal(source.rgb, MASK), Recorder(), None)
    else:
        edit = insert(insertion(source.rgb, MASK, photo("cat"), reference_mask=None), Recorder())
    assert edit.region is not None

    result = finish(source, edit)

    outside = edit.region == 0
    assert 0 < np.count_nonzero(outside) < outside.size
    assert np.array_equal(result[outside], source.deep[outside])
    inside = edit.region == 255
    assert np.array_equal(result[inside][:, :3], edit.image[inside].astype(np.uint16) * 257)
    assert channels in {1, 3} or (result[inside][:, 3] == 65535).all()


def test_no_bit_of_a_removed_object_is_left() -> None:
    """The lower bits inside are those of the fill."""
    source = read(3, "png")
    edit = remove(removal(source.rgb, MASK), Recorder(), None)
    assert edit.region is not None

    result = finish(source, edit)[edit.region > 0]

    assert np.array_equal(result % 257, np.zeros_like(result))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_balance_without_effect_changes_no_bit(channels: int) -> None:
    """This holds for a balance by a table, and by the pixels that an engine returns."""
    source = read(channels, "png")
    colours = own_colours(source)
    edit = Edit(colours, None)

    for table in (IDENTITY, None):
        again = read(channels, "png")
        result = keep_depth(again.deep, colours, edit, restore(again.rgba, edit), table)

        assert again.deep is not None
        assert np.array_equal(result, again.deep)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_table_is_applied_to_all_sixteen_bits(channels: int) -> None:
    """The result is the one of 8 bits to less than a level and a half, and has the steps between."""
    gains = np.array([1.15, 1.0, 0.8])
    table = np.clip(np.rint(np.arange(256)[:, None] * gains), 0, 255).astype(np.uint8)
    source = read(channels, "png")
    colours = own_colours(source)
    edit = Edit(apply_table(colours, table), None)

    result = keep_depth(source.deep, colours, edit, restore(source.rgba, edit), table)

    assert source.deep is not None
    seen = source.deep[..., 3] >= 256 if channels == 4 else np.ones((HEIGHT, WIDTH), np.bool_)
    assert np.abs(result[seen][:, :3] / 257 - edit.image[seen]).max() < 2.5
    assert len(np.unique(result[..., 0])) > 2000
    if channels == 4:
        assert np.array_equal(result[..., 3], source.deep[..., 3])
        assert np.array_equal(result[~seen], source.deep[~seen])


def test_clipped_highlights_stay_white() -> None:
    """As at 8 bits: a gain must not turn the sun pink."""
    deep = np.full((4, 5, 3), 65535, np.uint16)
    table = np.clip(np.arange(256)[:, None] * np.array([1.0, 0.8, 0.6]), 0, 255).astype(np.uint8)
    colours = np.full((4, 5, 3), 255, np.uint8)
    edit = Edit(apply_table(colours, table), None)

    result = keep_depth(deep, colours, edit, edit.image, table)

    assert (result == 65535).all()
    assert (edit.image == 255).all()


def test_a_repainted_photo_changes_by_the_difference() -> None:
    """An engine without a table returns pixels; the photo's steps stay in the result."""
    source = read(3, "png")
    edit = Edit((source.rgb + np.array([9, 0, -7])).astype(np.uint8), None)

    result = finish(source, edit)

    assert source.deep is not None
    assert np.array_equal(result, source.deep.astype(int) + np.array([9, 0, -7]) * 257)


def test_a_photo_of_eight_bits_is_left_alone() -> None:
    """Nothing is computed."""
    painted = np.zeros((3, 4, 3), np.uint8)

    assert keep_depth(None, painted, Edit(painted, None), painted, None) is painted
