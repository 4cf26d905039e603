"""An edit that was made on white is put back into a transparent photo."""

from __future__ import annotations

import numpy as np

from services.a100worker.backend import Edit
from services.a100worker.imaging.transparency import restore
from services.a100worker.job.results import count_outside_changes
from shared.image_codec import lay_on_white

RNG = np.random.default_rng(4)
PHOTO = RNG.integers(0, 256, (40, 50, 4), np.uint8)
PHOTO[:5, :, 3], PHOTO[5:15, :, 3] = 0, 255
REGION = np.zeros((40, 50), np.uint8)
REGION[10:30, 10:30] = 255
REGION[8:10, 10:30] = 128


def edit() -> Edit:
    """Return an edit that paints the region red on the white ground, softly at its rim."""
    weight = REGION[..., None] / 255
    image = lay_on_white(PHOTO) * (1 - weight) + np.array([200, 10, 10]) * weight
    return Edit(np.rint(image).astype(np.uint8), REGION)


def test_outside_the_region_every_bit_stays() -> None:
    """Colours and opacity, also of invisible pixels; the receipt counts both."""
    result = restore(PHOTO, edit())

    assert np.array_equal(result[REGION == 0], PHOTO[REGION == 0])
    assert count_outside_changes(PHOTO, result, REGION) == 0
    result[0, 0, 3] ^= 1
    assert count_outside_changes(PHOTO, result, REGION) == 1


def test_inside_the_region_the_result_is_opaque_and_as_painted() -> None:
    """As the edit needs it."""
    result = restore(PHOTO, edit())

    assert (result[REGION == 255] == [200, 10, 10, 255]).all()


def test_on_white_the_result_looks_as_the_engine_painted_it() -> None:
    """Also at the soft rim, within the rounding of the weakest opacity there."""
    result = restore(PHOTO, edit())

    rim = REGION == 128
    assert np.abs(lay_on_white(result)[rim].astype(int) - edit().image[rim]).max() <= 1
    assert (result[rim][:, 3] >= 128).all()


def test_an_opaque_photo_is_the_engines_image() -> None:
    """Nothing is computed."""
    painted = edit()

    assert restore(None, painted) is painted.image


def test_a_white_balance_keeps_the_opacity_everywhere() -> None:
    """It has no region."""
    balanced, before = Edit(np.full((40, 50, 3), 77, np.uint8), None), PHOTO.copy()

    result = restore(PHOTO, balanced)

    assert np.array_equal(PHOTO, before), "the next edit of this photo gets it too"
    assert np.array_equal(result[..., 3], PHOTO[..., 3])
    assert (result[..., :3][PHOTO[..., 3] > 0] == 77).all()
    assert np.array_equal(result[PHOTO[..., 3] == 0], PHOTO[PHOTO[..., 3] == 0])


def test_an_empty_region_changes_nothing() -> None:
    """Not a bit."""
    assert np.array_equal(restore(PHOTO, Edit(lay_on_white(PHOTO), np.zeros_like(REGION))), PHOTO)
