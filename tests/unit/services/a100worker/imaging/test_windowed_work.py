"""Work in windows gives the same bytes as work on the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.a100worker.imaging.grain import _CELL_PX, _grid_cells, _map_sources, _move
from services.a100worker.imaging.holes import feather, grow, split
from services.a100worker.job.results import count_outside_changes
from tests.unit.services.a100worker.imaging.whole_edits import feather_whole, grow_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

CASES = 300


def random_mask(random: np.random.Generator) -> Grey:
    """Return a mask of boxes, discs and single pixels, often at the border, sometimes one pixel wide."""
    height, width = (int(side) for side in random.integers(1, 200, 2))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(random.integers(1, 9))):
        x, y = int(random.integers(-5, width + 5)), int(random.integers(-5, height + 5))
        size = int(random.choice([0, 1, 2, 5, 20, 60]))
        if random.random() < 0.5:
            cv2.circle(mask, (x, y), size, 255, -1)
        else:
            cv2.rectangle(mask, (x, y), (x + size, y + int(random.integers(0, 40))), 255, -1)
    return mask


def masks() -> list[Grey]:
    """Return random masks that mark something, but not everything."""
    random = np.random.default_rng(11)
    made = (random_mask(random) for _ in range(2 * CASES))
    return [mask for mask in made if mask.any() and not mask.all()][:CASES]


def split_whole(hole: Grey) -> tuple[list[Grey], Grey]:
    """Return the parts, each in a mask of the whole image, and the specks."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hole, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    large = [int(label) for label in np.argsort(-areas, kind="stable") if label and areas[label] >= 0.001 * hole.size]
    specks = np.full(count, 255, np.uint8)
    specks[[0, *large]] = 0
    return [np.where(labels == label, np.uint8(255), np.uint8(0)) for label in large], specks[labels]


def shift_whole(image: Rgb, shift: NDArray[np.intp], small: tuple[int, ...]) -> Rgb:
    """Return the shifted pixels by an index of arrays."""
    places = []
    for axis, (side, small_side) in enumerate(zip(image.shape, small, strict=False)):
        at = [np.arange(full) * part // full // _CELL_PX for full, part in zip(image.shape, small, strict=False)]
        offset = np.rint(shift[..., axis] * (side / small_side)).astype(np.intp)[np.ix_(*at)]
        here = np.arange(side).reshape((-1, 1) if axis == 0 else (1, -1))
        places.append(np.clip(here + offset, 0, side - 1))
    return np.asarray(image[tuple(places)])


def test_a_mask_grows_and_feathers_in_its_window_as_on_the_whole_image() -> None:
    """Byte for byte."""
    for mask in masks():
        hole = grow(mask)

        assert np.array_equal(hole, grow_whole(mask))
        assert np.array_equal(feather(hole, mask), feather_whole(hole, mask))


@pytest.mark.parametrize("grown", [False, True])
def test_a_hole_is_split_in_its_window_as_on_the_whole_image(*, grown: bool) -> None:
    """The same parts in the same order, and the same specks."""
    for mask in masks():
        hole = grow(mask) if grown else mask
        whole, whole_specks = split_whole(hole)

        parts, specks = split(hole, None)

        assert np.array_equal(specks, whole_specks)
        assert len(parts) == len(whole)
        for part, expected in zip(parts, whole, strict=True):
            placed = np.zeros_like(hole)
            placed[part.window.slices] = part.mask
            assert np.array_equal(placed, expected)
            assert np.array_equal(part.avoid, hole[part.window.slices] & ~part.mask)


def test_many_parts_of_one_size_keep_their_order() -> None:
    """Rows of equal squares at odd and even places."""
    random = np.random.default_rng(5)
    for _ in range(50):
        hole = np.zeros((97, 131), np.uint8)
        for _ in range(40):
            x, y = int(random.integers(0, 129)), int(random.integers(0, 95))
            hole[y : y + 2, x : x + 2] = 255
        hole[: int(random.integers(0, 30))] = 0
        expected = [np.argwhere(part)[0].tolist() for part in split_whole(hole)[0] if part.any()]

        parts, _ = split(hole, None)

        first = [np.argwhere(part.mask)[0] + (part.window.y, part.window.x) for part in parts]
        assert [place.tolist() for place in first] == expected


def test_pixels_are_moved_as_by_an_index() -> None:
    """Byte for byte, with shifts beyond the borders, in any rectangle."""
    random = np.random.default_rng(3)
    for _ in range(CASES):
        height, width = (int(side) for side in random.integers(1, 120, 2))
        small = max(1, int(height * random.uniform(0.1, 1))), max(1, int(width * random.uniform(0.1, 1)))
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        shift = random.integers(-60, 60, _grid_cells(small).shape)
        (top, bottom), (left, right) = (np.sort(random.integers(0, side + 1, 2)) for side in (height, width))
        if top == bottom or left == right:
            continue

        moved = _move(image, _map_sources((height, width), small, shift, (slice(top, bottom), slice(left, right))))

        assert np.array_equal(moved, shift_whole(image, shift, small)[top:bottom, left:right])


def test_changes_outside_are_counted_as_on_the_whole_image() -> None:
    """Changes are counted in the rows of the region and in all others."""
    random = np.random.default_rng(7)
    for region in masks():
        before = random.integers(0, 256, (*region.shape, 3), dtype=np.uint8)
        after = before.copy()
        changed = random.random(region.shape) < random.choice([0, 0.001, 0.2])
        after[changed] ^= random.integers(1, 256, dtype=np.uint8)

        count = count_outside_changes(before, after, region)

        assert count == np.count_nonzero(changed & (region == 0))
