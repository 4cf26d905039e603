"""Windows: near the regions, few, and with enough of the photo round each region."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.a100worker.imaging import windows
from services.a100worker.imaging.placement import Box
from tests.unit.services.a100worker.recorder import box_mask

PHOTO = (4000, 6000)  # 24 megapixels


@st.composite
def photos_with_regions(draw: st.DrawFn) -> tuple[tuple[int, int], list[Box]]:
    """Return a photo's shape and boxes inside it."""
    shape = draw(st.integers(16, 5000)), draw(st.integers(16, 5000))
    boxes = []
    for _ in range(draw(st.integers(1, 24))):
        x, y = draw(st.integers(0, shape[1] - 1)), draw(st.integers(0, shape[0] - 1))
        boxes.append(Box(x, y, draw(st.integers(1, shape[1] - x)), draw(st.integers(1, shape[0] - y))))
    return shape, boxes


def contains(outer: Box, inner: Box) -> bool:
    """Return whether one box lies in the other."""
    return outer.expand(0, (10**6, 10**6)) == windows._hull([outer, inner])  # noqa: SLF001


def overlap(first: Box, second: Box) -> bool:
    """Return whether two boxes share a pixel."""
    beside = first.x >= second.x + second.width or second.x >= first.x + first.width
    return not beside and first.y < second.y + second.height and second.y < first.y + first.height


def test_a_window_is_the_region_and_half_as_much_again() -> None:
    """A quarter on each edge, rounded up to multiples of 32."""
    (window,) = windows.plan([Box(2000, 1000, 600, 400)], PHOTO)

    assert (window.box.width, window.box.height) == (928, 608)  # 600 + 2 * 150 and 400 + 2 * 100, rounded up
    assert contains(window.box, Box(1850, 900, 900, 600))


@pytest.mark.parametrize(
    ("region", "size"),
    [
        (Box(3000, 2000, 20, 10), (512, 512)),
        (Box(3000, 2000, 480, 16), (736, 512)),  # 480 + 2 * 120
        (Box(3000, 2000, 40, 500), (512, 768)),
        (Box(0, 0, 40, 40), (512, 512)),
        (Box(5990, 3990, 10, 10), (512, 512)),
        (Box(0, 0, 6000, 4000), (6000, 4000)),
    ],
)
def test_a_small_region_gets_a_window_of_512_px(region: Box, size: tuple[int, int]) -> None:
    """This also holds in the photo's corners."""
    (window,) = windows.plan([region], PHOTO)

    assert (window.box.width, window.box.height) == size
    assert contains(window.box, region)


def test_a_photo_below_512_px_is_its_own_window() -> None:
    """It has no more pixels to show."""
    (window,) = windows.plan([Box(100, 100, 30, 30)], (300, 451))

    assert window.box == Box(0, 0, 451, 300)


def test_near_regions_share_a_window_and_far_ones_do_not() -> None:
    """Two windows would cost more than one where they overlap."""
    near = windows.plan([Box(1000, 1000, 50, 50), Box(1300, 1000, 50, 50)], PHOTO)
    far = windows.plan([Box(1000, 1000, 50, 50), Box(3000, 1000, 50, 50)], PHOTO)

    assert [len(window.regions) for window in near] == [2]
    assert [len(window.regions) for window in far] == [1, 1]


def test_there_are_four_windows_at_most() -> None:
    """The nearest are joined first."""
    regions = [Box(x, y, 60, 60) for x, y in [(0, 0), (5900, 0), (0, 3900), (5900, 3900), (4900, 3900)]]

    planned = windows.plan(regions, PHOTO)

    assert [len(window.regions) for window in planned] == [1, 1, 1, 2]


def test_thousands_of_specks_are_planned_at_once() -> None:
    """Pairs of them would take minutes."""
    random = np.random.default_rng(1)
    regions = [Box(int(x), int(y), 2, 2) for x, y in random.integers(0, 3990, (20_000, 2))]

    assert len(windows.plan(regions, PHOTO)) == 1


@given(photos_with_regions())
def test_each_region_lies_in_one_window_with_its_margin(example: tuple[tuple[int, int], list[Box]]) -> None:
    """Inside the photo, and no other window's region reaches in: it would be seen there unpainted."""
    shape, regions = example

    planned = windows.plan(regions, shape)

    assert 1 <= len(planned) <= windows.MOST
    assert sorted(map(repr, regions)) == sorted(repr(region) for window in planned for region in window.regions)
    for window in planned:
        assert contains(Box(0, 0, shape[1], shape[0]), window.box)
        assert all(contains(window.box, region.expand(64, shape)) for region in window.regions)
        assert window.box.width >= min(512, shape[1])
        assert window.box.height >= min(512, shape[0])
        assert window.box.width % 32 == 0 or window.box.width == shape[1]
        assert window.box.height % 32 == 0 or window.box.height == shape[0]
        others = [region for other in planned if other is not window for region in other.regions]
        assert not any(overlap(window.box, region) for region in others)


def test_the_boxes_of_a_mask_are_those_of_its_parts() -> None:
    """Corners that touch count as one part."""
    mask = box_mask(100, 100, (10, 10, 20, 20), (20, 20, 30, 30), (60, 60, 61, 61))

    assert windows.boxes_of(mask) == [Box(10, 10, 20, 20), Box(60, 60, 1, 1)]


def test_only_marked_pixels_have_boxes() -> None:
    """A pixel of a soft rim, up to one half, is not marked."""
    mask = box_mask(100, 100, (10, 10, 20, 20), (60, 70, 65, 90)).copy()
    mask[0, 0], mask[99, 99] = 128, 40

    assert windows.boxes_of_marked(mask) == [Box(10, 10, 10, 10), Box(60, 70, 5, 20)]


@pytest.mark.parametrize(("rows", "little"), [(95, False), (96, True)])
def test_a_mask_over_nearly_all_of_the_photo_is_noticed(rows: int, little: bool) -> None:  # noqa: FBT001
    """A window has no context then."""
    assert windows.leaves_no_context(box_mask(100, 100, (0, 0, 100, rows))) is little
