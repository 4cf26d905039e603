"""Removal, on photos and on pictures that no camera makes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.a100worker.backends.classical.removal import remove
from services.a100worker.backends.lama.laptop import LaptopLama
from services.a100worker.backends.patchmatch.filler import Filler
from shared.errors import BadInput
from shared.source_types import SourceType
from tests.unit.services.a100worker.recorder import Recorder, box_mask, frozen, noise, photo, removal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.a100worker.cancel_flag import CancelFlag
    from services.a100worker.imaging.holes import Hole
    from shared.image_codec import Grey, Rgb

MASKS = {
    "in the middle": lambda h, w: box_mask(h, w, (w // 3, h // 3, 2 * w // 3 + 1, 2 * h // 3 + 1)),
    "in a corner": lambda h, w: box_mask(h, w, (0, 0, (w + 1) // 2, h // 2 + 1)),
    "on the left": lambda h, w: box_mask(h, w, (0, 0, (w + 1) // 2, max(1, h - 1))),
    "a speck": lambda h, w: box_mask(h, w, (w // 2, h // 2, w // 2 + 1, h // 2 + 1)),
    "all but one pixel": lambda h, w: ~box_mask(h, w, (w - 1, h - 1, w, h)),
}


@pytest.fixture
def filler() -> Iterator[Filler]:
    """Return a filler that is closed after the test."""
    with closing(Filler()) as opened:
        yield opened


def sky_with_disc() -> tuple[Rgb, Grey]:
    """Return a red disc in a grainy blue gradient, and its mask."""
    height, width = 200, 300
    sky = np.zeros((height, width, 3), np.float32)
    sky[..., 2] = np.linspace(120, 220, height)[:, None]
    sky += np.random.default_rng(1).normal(0, 3, sky.shape)
    picture = np.clip(sky, 0, 255).astype(np.uint8)
    disc = cv2.circle(np.zeros((height, width), np.uint8), (150, 100), 30, 255, -1)
    picture[disc > 0] = (230, 20, 20)
    return frozen(picture), np.asarray(disc, np.uint8)


class GreyNetwork(LaptopLama):
    """LaMa without weights and without a child process: it paints all holes grey, or none."""

    def __init__(self, *, is_used: bool) -> None:
        self.is_used = is_used

    def suits(self, image: Rgb, hole: Hole) -> bool:
        """Return the same for all holes."""
        del image, hole
        return self.is_used

    def fill(self, image: Rgb, part: Hole, unknown: Grey, seed: int, cancel_flag: CancelFlag) -> None:
        """Paint the hole."""
        del unknown, seed, cancel_flag
        image[part.window.slices][part.mask > 0] = 128


@pytest.mark.parametrize("is_used", [True, False])
def test_an_edit_states_whether_a_network_painted(filler: Filler, *, is_used: bool) -> None:
    """A volume with LaMa is not enough."""
    picture, disc = sky_with_disc()

    edit = remove(removal(picture, disc), Recorder(), filler, GreyNetwork(is_used=is_used))

    assert edit.source_type == (SourceType.COMPOSITE_WITH_NETWORK if is_used else SourceType.COMPOSITE)


def test_the_object_is_gone_and_the_background_goes_on(filler: Filler) -> None:
    """No red is left, and the gradient runs through where the disc was."""
    picture, disc = sky_with_disc()

    result = remove(removal(picture, disc), Recorder(), filler).image

    assert result[..., 0].max() < 60
    rows = result[75:125, 140:160, 2].mean(axis=1)
    assert np.abs(rows - picture[75:125, 20:40, 2].mean(axis=1)).max() < 25


def test_without_a_filler_the_hole_is_filled_smoothly() -> None:
    """The method of last resort, where PatchMatch has no wheel."""
    picture, disc = sky_with_disc()

    result = remove(removal(picture, disc), Recorder(), None).image

    assert result[..., 0].max() < 60


@pytest.mark.parametrize("size", [(8, 8), (1, 300), (300, 1), (5, 40), (91, 53)])
@pytest.mark.parametrize("where", MASKS)
def test_odd_pictures_keep_their_size_and_all_outside_the_region(
    filler: Filler, size: tuple[int, int], where: str
) -> None:
    """Down to pictures that have no whole patch."""
    picture, mask = noise(*size), MASKS[where](*size)

    edit = remove(removal(picture, mask), Recorder(), filler)

    assert edit.image.shape == picture.shape
    assert edit.region is not None
    assert np.array_equal(edit.image[edit.region == 0], picture[edit.region == 0])
    assert np.all(edit.region[mask > 0] == 255)


def test_a_large_picture_is_filled_at_a_smaller_scale(filler: Filler) -> None:
    """With grain, and with nothing changed outside."""
    picture = frozen(np.clip(np.random.default_rng(1).normal(120, 15, (700, 1500, 3)), 0, 255).astype(np.uint8))
    mask = box_mask(700, 1500, (700, 300, 800, 400))

    edit = remove(removal(picture, mask), Recorder(), filler)

    assert edit.region is not None
    assert np.array_equal(edit.image[edit.region == 0], picture[edit.region == 0])
    assert edit.image[mask > 0].std() > 7


def test_there_is_one_step_for_each_hole(filler: Filler) -> None:
    """Besides looking and blending, and one for all specks."""
    recorder = Recorder()
    mask = box_mask(300, 451, (50, 50, 90, 90), (200, 100, 260, 160), (400, 20, 402, 21))

    remove(removal(photo("cat"), mask), recorder, filler)

    assert recorder.steps == [(0, 0), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert recorder.messages[1:3] == ["Filling 1 of 2", "Filling 2 of 2"]


def test_the_fill_takes_nothing_from_salient_pixels(filler: Filler) -> None:
    """The saliency map keeps a red block beside the hole from being copied into it."""
    picture = np.asarray(np.random.default_rng(3).integers(90, 160, (200, 300, 3)), np.uint8)
    picture[60:140, 190:250] = (250, 0, 0)
    saliency = box_mask(200, 300, (190, 60, 250, 140))
    work = removal(frozen(picture), box_mask(200, 300, (110, 70, 170, 130)), fetch_saliency=lambda: saliency)

    result = remove(work, Recorder(), filler).image

    hole = result[70:130, 110:170].astype(int)
    assert (hole[..., 0] - hole[..., 1]).max() < 100


@pytest.mark.parametrize(("mask", "why"), [(0, "nothing to remove"), (255, "whole image")])
def test_a_mask_of_all_or_nothing_is_bad_input(mask: int, why: str) -> None:
    """With a sentence for the user."""
    with pytest.raises(BadInput, match=why):
        remove(removal(noise(50, 60), np.full((50, 60), mask, np.uint8)), Recorder(), None)


@pytest.mark.parametrize(("bottom", "is_warned"), [(298, True), (200, False)])
def test_a_mask_over_nearly_everything_gives_a_warning(bottom: int, *, is_warned: bool) -> None:
    """The user sees it with the progress."""
    recorder = Recorder()

    remove(removal(noise(300, 400), box_mask(300, 400, (0, 0, 400, bottom))), recorder, None)

    assert any("nearly the whole photo" in (message or "") for message in recorder.messages) is is_warned


def test_the_pictures_for_debugging_come_in_the_client_s_order() -> None:
    """The engine's own addition comes last."""
    work = removal(photo("cat"), box_mask(300, 451, (50, 50, 90, 90)), debug=True)

    conditions = remove(work, Recorder(), None).conditions

    assert [label for label, _ in conditions] == ["original", "mask", "mae", "dilated_mask"]


def test_a_spot_needs_no_saliency(filler: Filler) -> None:
    """It is gone in half the time; a hole of half a percent of the photo asks for the map once."""
    image, asked = noise(900, 1200), []
    speck, spot, hole = (box_mask(900, 1200, (600, 400, 600 + side, 400 + side)) for side in (2, 30, 100))

    for mask in (speck, spot, hole):
        work = removal(image, mask, fetch_saliency=lambda: asked.append("map"))
        assert (remove(work, Recorder(), filler).image != image).any()

    assert asked == ["map"]


@pytest.mark.parametrize("name", ["cat", "coffee"])
def test_another_try_fills_the_same_hole_in_another_way(filler: Filler, name: str) -> None:
    """At another scale; the same try gives the same pixels."""
    image = photo(name)
    mask = box_mask(*image.shape[:2], (60, 60, 130, 120))

    first, second, again = (
        remove(removal(image, mask, variant=variant), Recorder(), filler).image for variant in (0, 1, 1)
    )

    assert np.array_equal(second, again)
    assert (first != second)[mask > 0].mean() > 0.5
    assert np.array_equal(first[:30], second[:30])


@pytest.mark.parametrize("size", [(8, 8), (1, 300), (5, 40)])
def test_another_try_works_on_any_size(filler: Filler, size: tuple[int, int]) -> None:
    """Half of one pixel is one pixel."""
    edit = remove(removal(noise(*size), MASKS["in the middle"](*size), variant=1), Recorder(), filler)

    assert edit.image.shape == (*size, 3)
