"""The pictures that the model can be shown of each task, and the pixels that may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.a100worker.backends.qwen.recipes.recipe import View
from services.a100worker.backends.qwen.scenes import labels
from services.a100worker.backends.qwen.scenes.balance import BalanceScene, canny
from services.a100worker.backends.qwen.scenes.insertion import InsertionScene, outline_of
from services.a100worker.backends.qwen.scenes.removal import RemovalScene
from services.a100worker.backends.qwen.scenes.scene import draw
from services.a100worker.imaging import placement, windows
from shared.errors import BadInput, ConfigError
from tests.unit.services.a100worker.recorder import box_mask, frozen, insertion, photo, removal

if TYPE_CHECKING:
    from services.a100worker.backend import InsertionInputs
    from services.a100worker.imaging.windows import Window
    from shared.image_codec import Grey, Rgb

AREA = 1024 * 1024
PHOTO = frozen(np.asarray(cv2.resize(photo("coffee"), (1200, 800), interpolation=cv2.INTER_CUBIC), np.uint8))
MASK = box_mask(800, 1200, (500, 300, 580, 380))
WINDOW = windows.plan(windows.boxes_of_marked(MASK), PHOTO.shape)[0]
PART = WINDOW.box.slices
INSIDE = MASK[PART] > 0
MAGENTA = np.array((255, 0, 255))


class Filler:
    """Fills holes with red, and keeps them."""

    hole: Grey

    def __call__(self, image: Rgb, hole: Grey, saliency: Grey | None) -> Rgb:
        """See Fill."""
        del saliency
        self.hole = hole
        return np.where(hole[..., None] > 0, np.array([255, 0, 0], np.uint8), image)


def removal_scene(fill: Filler, window: Window = WINDOW, *, wide: bool = False) -> RemovalScene:
    """Return the scene of a removal in the coffee's photo."""
    return RemovalScene(removal(PHOTO, MASK), PHOTO, window, AREA, fill, None, wide=wide)


def insertion_scene(job: InsertionInputs) -> InsertionScene:
    """Return the scene of an insertion's only window."""
    (window,) = windows.plan(placement.find_regions(job.mask), job.image.shape)
    return InsertionScene(job, job.image, window, AREA, outline_of(job))


# --- removal ------------------------------------------------------------------------------------------------------


def test_the_scene_is_the_photo_s_part_at_its_own_resolution() -> None:
    """Every view has the canvas's size."""
    scene = removal_scene(Filler())

    assert scene.frame.scale == 1
    assert np.array_equal(scene.photo, PHOTO[PART])
    assert {draw(scene, view).shape for view in scene.views} == {(512, 512, 3)}


def test_a_removal_can_show_the_hole_the_mask_and_a_fill() -> None:
    """The hole is black, the mask as it was drawn, the fill a little wider."""
    fill = Filler()
    scene = removal_scene(fill)

    hollow, mask, filled = (draw(scene, view) for view in (View.HOLLOW, View.MASK, View.FILLED))

    assert not hollow[INSIDE].any()
    assert np.array_equal(hollow[~INSIDE], PHOTO[PART][~INSIDE])
    assert np.array_equal(mask, np.repeat(MASK[PART][..., None], 3, axis=2))
    assert (filled[INSIDE] == (255, 0, 0)).all()
    assert np.array_equal(filled[fill.hole == 0], PHOTO[PART][fill.hole == 0])
    assert np.count_nonzero(fill.hole) > np.count_nonzero(MASK)


def test_a_removal_can_show_the_object_tinted_or_boxed() -> None:
    """Tinted it can still be made out, and beside it nothing changes."""
    scene = removal_scene(Filler())
    part = PHOTO[PART].astype(int)

    tinted, boxed = draw(scene, View.TINTED), draw(scene, View.BOXED)

    assert np.array_equal(tinted[~INSIDE], part[~INSIDE])
    assert np.abs(tinted[INSIDE] - MAGENTA).mean() < 0.6 * np.abs(part[INSIDE] - MAGENTA).mean()
    assert tinted[INSIDE].std() > 0.2 * part[INSIDE].std()
    red = (boxed == (255, 0, 0)).all(axis=2)
    assert cv2.boundingRect(red.astype(np.uint8))[2:] == pytest.approx((80, 80), abs=4)
    assert np.array_equal(boxed[~red], part[~red])


def test_only_the_grown_mask_may_change() -> None:
    """All of the mask does, and the rim is soft."""
    region = removal_scene(Filler()).region
    assert region is not None

    assert (region[INSIDE] == 255).all()
    assert np.count_nonzero(region) < 1.4 * np.count_nonzero(INSIDE)
    assert set(np.unique(region)) > {0, 255}


@pytest.mark.parametrize(("wide", "reach"), [(True, 35), (False, 6)])
def test_the_hole_reaches_a_little_or_far_beyond_the_mask(wide: bool, reach: int) -> None:  # noqa: FBT001
    """The adapter was trained with fills that reach 35 px beyond a brushed mask."""
    fill = Filler()

    _ = removal_scene(fill, wide=wide).filling

    left, _, width, _ = cv2.boundingRect(fill.hole)
    drawn = cv2.boundingRect(MASK[PART])
    assert (drawn[0] - left, left + width - drawn[0] - drawn[2]) == (reach, reach)


def test_a_mask_over_the_whole_photo_is_the_user_s_mistake() -> None:
    """There is nothing left to continue from; and so is one that marks nothing."""
    full = np.full_like(MASK, 255)

    with pytest.raises(BadInput, match="covers the whole image"):
        RemovalScene(removal(PHOTO, full), PHOTO, WINDOW, AREA, Filler(), None)
    with pytest.raises(BadInput, match="The mask marks nothing to remove"):
        windows.boxes_of_marked(np.zeros_like(MASK))


# --- insertion ----------------------------------------------------------------------------------------------------


def test_an_insertion_can_show_the_reference_the_place_and_the_background() -> None:
    """Without a mask of the reference the place is the mask, and a shadow at its foot."""
    scene = insertion_scene(insertion(PHOTO, MASK, photo("rocket")))

    reference, place, background = (draw(scene, view) for view in (View.REFERENCE, View.MASK, View.HOLLOW))

    assert reference.shape == place.shape == background.shape == scene.photo.shape
    assert abs(reference.mean() - photo("rocket").mean()) < 3
    assert (place[INSIDE] == 255).all()
    top, bottom = (edge - WINDOW.box.y for edge in (300, 380))
    assert np.count_nonzero(place[bottom:, :, 0]) > np.count_nonzero(place[:top, :, 0])
    assert not background[INSIDE].any()
    left = 500 - WINDOW.box.x
    below, above = np.s_[bottom + 2 : bottom + 8, left : left + 80], np.s_[top - 40 : top - 10, left : left + 80]
    assert background[below].mean() < scene.photo[below].mean()
    assert np.array_equal(background[above], scene.photo[above])


def test_an_insertion_can_show_the_marked_place_and_the_object_on_white() -> None:
    """The object keeps its proportions; of the picture round it nothing is left."""
    reference = np.full((200, 300, 3), (10, 120, 30), np.uint8)
    reference[20:60, 40:140] = (200, 50, 50)
    outline = box_mask(200, 300, (40, 20, 140, 60))

    scene = insertion_scene(insertion(PHOTO, MASK, reference, reference_mask=outline))
    marked, thing = draw(scene, View.MARKED), draw(scene, View.OBJECT)

    seen = thing.min(axis=2) < 250
    _, _, width, height = cv2.boundingRect(np.where(seen, np.uint8(255), np.uint8(0)))
    assert width / height == pytest.approx(2.5, rel=0.02)
    assert 0.8 * thing.shape[1] < width < 0.9 * thing.shape[1]
    assert np.abs(thing[seen].astype(int) - (200, 50, 50)).mean() < 3
    place = scene.placed > 0
    assert np.array_equal(marked[~place], scene.photo[~place])
    assert np.abs(marked[place] - MAGENTA).mean() < 0.6 * np.abs(scene.photo[place] - MAGENTA).mean()


def test_a_reference_without_a_mask_is_shown_whole() -> None:
    """At its own proportions, up to the rim."""
    scene = insertion_scene(insertion(PHOTO, MASK, frozen(np.zeros((100, 300, 3), np.uint8))))

    thing = draw(scene, View.OBJECT)

    seen = np.where(thing.min(axis=2) < 250, np.uint8(255), np.uint8(0))
    assert cv2.boundingRect(seen)[2:] == (512, 170)


def test_an_insertion_with_a_mask_of_the_reference_has_its_outline() -> None:
    """At its own proportions, on the floor of the marked region."""
    outline = np.zeros((200, 300), np.uint8)
    cv2.circle(outline, (60, 60), 30, 255, -1)
    reference = np.ascontiguousarray(photo("coffee")[:200, :300])
    job = insertion(PHOTO, MASK, reference, reference_mask=outline)

    scene = insertion_scene(job)

    shown = dict(labels.of_insertion(job, [(WINDOW, scene)], outline_of(job)))
    assert list(shown) == [
        "original",
        "mask_A",
        "masked_R",
        "reference_image",
        "positioned_mask_R",
        "positioned_mask",
    ]
    placed = np.ascontiguousarray(shown["positioned_mask"][..., 0])
    assert cv2.boundingRect(placed) == (500, 300, 80, 80)
    assert placed[302, 502] == 0  # a circle has no corners
    assert not draw(scene, View.HOLLOW)[340 - WINDOW.box.y, 540 - WINDOW.box.x].any()


def test_an_all_black_mask_of_the_reference_is_none() -> None:
    """Clients send one after the eraser was used."""
    job = insertion(PHOTO, MASK, photo("coffee"), reference_mask=np.zeros((50, 50), np.uint8))

    scene = insertion_scene(job)

    shown = dict(labels.of_insertion(job, [(WINDOW, scene)], outline_of(job)))
    assert shown.keys() == {"ref_img", "mask", "masked_bg", "positioned_mask"}


# --- white balance ------------------------------------------------------------------------------------------------


def test_a_white_balance_can_show_the_photo_and_its_edges() -> None:
    """White on black, and everything may change."""
    scene = BalanceScene(photo("cat"), AREA)

    picture, edges = draw(scene, View.PHOTO), draw(scene, View.EDGES)

    assert scene.region is None
    assert picture.shape == edges.shape == (832, 1248, 3)
    assert set(np.unique(edges)) == {0, 255}
    assert 0.005 < (edges > 0).mean() < 0.4


def test_edges_are_where_a_picture_has_them() -> None:
    """A square gives its outline, a plain picture nothing."""
    plain = np.full((96, 96, 3), 90, np.uint8)
    square = plain.copy()
    square[30:60, 30:60] = 220

    assert not canny(plain).any()
    assert cv2.boundingRect(canny(square))[2:] == pytest.approx((30, 30), abs=3)


def test_a_picture_that_a_task_does_not_have_is_refused() -> None:
    """A recipe of another task was named."""
    with pytest.raises(ConfigError, match="'marked'"):
        draw(BalanceScene(photo("cat"), AREA), View.MARKED)


# --- debugging ----------------------------------------------------------------------------------------------------


def test_the_labelled_pictures_of_a_removal_have_the_photo_s_size() -> None:
    """With the fill at its place, and each picture that was shown by its window."""
    job, scene = removal(PHOTO, MASK), removal_scene(Filler())

    labelled = dict(labels.of_removal(job, [(WINDOW, scene)]))

    assert list(labelled) == ["original", "mask", "mae", "dilated_mask"]
    assert {picture.shape for picture in labelled.values()} == {PHOTO.shape}
    assert (labelled["mae"][MASK > 0] == (255, 0, 0)).all()
    assert np.array_equal(labelled["mae"][:200], PHOTO[:200])
    assert [label for label, _ in labels.of_shown([scene, scene], [View.FILLED])] == [
        "window_1_picture_1",
        "window_2_picture_1",
    ]
