"""Insertion of an object from a reference."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.a100worker.backends.classical.insertion import insert
from shared.errors import BadInput
from tests.unit.services.a100worker.recorder import Recorder, box_mask, frozen, insertion, noise, photo


def red_ball() -> tuple[np.ndarray, np.ndarray]:
    """Return a red ball on white, and its mask."""
    mask = cv2.circle(np.zeros((200, 200), np.uint8), (120, 90), 50, 255, -1)
    picture = np.full((200, 200, 3), 255, np.uint8)
    picture[mask > 0] = (220, 20, 20)
    return frozen(picture), np.asarray(mask, np.uint8)


def test_the_object_stands_on_the_floor_of_the_region() -> None:
    """Fitted to its height, centred from left to right."""
    ball, shape = red_ball()
    scene = np.full((300, 400, 3), (120, 130, 120), np.uint8)
    work = insertion(scene, box_mask(300, 400, (100, 100, 300, 200)), reference=ball, reference_mask=shape)

    edit = insert(work, Recorder())

    red = edit.image[..., 0].astype(int) - edit.image[..., 1] > 60
    x, y, width, height = cv2.boundingRect(red.astype(np.uint8))
    assert abs(x + width / 2 - 200) <= 2
    assert abs(y + height - 200) <= 3
    assert 92 <= height <= 101
    assert abs(width - height) <= 3


def test_each_region_gets_a_copy() -> None:
    """Two boxes, two balls, and a step for each."""
    ball, shape = red_ball()
    scene = np.full((300, 400, 3), (120, 130, 120), np.uint8)
    mask = box_mask(300, 400, (20, 20, 120, 120), (200, 100, 360, 260))
    recorder = Recorder()

    edit = insert(insertion(scene, mask, reference=ball, reference_mask=shape), recorder)

    red = (edit.image[..., 0].astype(int) - edit.image[..., 1] > 60).astype(np.uint8)
    assert cv2.connectedComponents(red)[0] - 1 == 2
    assert recorder.steps == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("reference", ["astronaut", "cat", "coffee", "rocket"])
def test_a_reference_without_mask_is_set_in_as_a_whole(reference: str) -> None:
    """If the object cannot be found. Outside the region no byte changes."""
    scene = photo("rocket")
    work = insertion(scene, box_mask(427, 640, (200, 100, 300, 220)), reference=photo(reference))

    edit = insert(work, Recorder())

    assert edit.region is not None
    assert np.array_equal(edit.image[edit.region == 0], scene[edit.region == 0])
    assert np.any(edit.image != scene)


def test_the_salient_part_of_the_reference_is_the_object() -> None:
    """Nothing of the rest of it is set in."""
    reference = np.full((200, 200, 3), (20, 200, 20), np.uint8)
    reference[50:150, 50:150] = (200, 20, 20)
    scene = np.full((300, 400, 3), (120, 120, 120), np.uint8)
    saliency = box_mask(200, 200, (50, 50, 150, 150))
    work = insertion(
        scene, box_mask(300, 400, (100, 100, 200, 200)),
        reference=reference, fetch_reference_saliency=lambda: saliency,
    )  # fmt: skip

    edit = insert(work, Recorder())

    assert not np.any(edit.image[..., 1].astype(int) - edit.image[..., 0] > 30)


@pytest.mark.parametrize("box", [(0, 0, 12, 12), (30, 20, 41, 53), (0, 0, 41, 53), (0, 43, 41, 53)])
def test_regions_at_the_border_are_no_special_case(box: tuple[int, int, int, int]) -> None:
    """The shadow is cut off there, the size stays."""
    ball, shape = red_ball()
    scene = noise(53, 41)

    edit = insert(insertion(scene, box_mask(53, 41, box), reference=ball, reference_mask=shape), Recorder())

    assert edit.image.shape == scene.shape
    assert edit.region is not None
    assert np.array_equal(edit.image[edit.region == 0], scene[edit.region == 0])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (8, 8), (700, 2000)])
def test_references_of_any_size_are_taken(size: tuple[int, int]) -> None:
    """Down to a single pixel."""
    edit = insert(insertion(noise(100, 100), box_mask(100, 100, (20, 20, 80, 80)), reference=noise(*size)), Recorder())

    assert edit.image.shape == (100, 100, 3)


@pytest.mark.parametrize(
    ("masked", "labels"),
    [
        (True, ["original", "mask_A", "masked_R", "reference_image", "positioned_mask_R", "positioned_mask"]),
        (False, ["ref_img", "mask", "masked_bg", "positioned_mask"]),
    ],
)
def test_the_pictures_for_debugging_come_in_the_client_s_order(*, masked: bool, labels: list[str]) -> None:
    """One list with a reference mask, another when it is all black."""
    ball, shape = red_ball()
    reference_mask = shape if masked else np.zeros_like(shape)
    work = insertion(
        noise(100, 100), box_mask(100, 100, (20, 20, 80, 80)),
        reference=ball, reference_mask=reference_mask, debug=True,
    )  # fmt: skip

    assert [label for label, _ in insert(work, Recorder()).conditions] == labels


@pytest.mark.parametrize("box", [(50, 20, 51, 280), (20, 50, 380, 53)])
def test_a_region_too_narrow_to_see_anything_in_is_refused(box: tuple[int, int, int, int]) -> None:
    """One pixel across, or three down: the edit would end as done and show nothing."""
    ball, shape = red_ball()
    work = insertion(noise(300, 400), box_mask(300, 400, box), reference=ball, reference_mask=shape)

    with pytest.raises(BadInput, match="too narrow for an object"):
        insert(work, Recorder())


def test_an_insertion_that_changes_nothing_is_reported() -> None:
    """A black object on a black photo: nobody could find it in the result."""
    black = frozen(np.zeros((200, 200, 3), np.uint8))
    work = insertion(black, box_mask(200, 200, (40, 40, 160, 160)), reference=black)

    with pytest.raises(BadInput, match="changed nothing"):
        insert(work, Recorder())


def test_a_mask_over_nearly_everything_gives_a_warning() -> None:
    """The user sees it with the progress."""
    ball, shape = red_ball()
    recorder = Recorder()

    insert(
        insertion(noise(300, 400), box_mask(300, 400, (0, 0, 400, 298)), reference=ball, reference_mask=shape), recorder
    )

    assert any("nearly the whole photo" in (message or "") for message in recorder.messages)
