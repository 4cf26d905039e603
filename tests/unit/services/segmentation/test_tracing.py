"""Masks traced as polygons."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.segmentation import masks


def draw(polygons: list[list[tuple[float, float]]], width: int, height: int) -> np.ndarray:
    """Fill polygons of image pixels with the even-odd rule."""
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(polygon).astype(np.int32) for polygon in polygons], 255)
    return mask


def ring(side: int) -> np.ndarray:
    """Return a ring as a mask of this size."""
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (side // 2, side // 2), side // 3, 255, -1)
    cv2.circle(mask, (side // 2, side // 2), side // 6, 0, -1)
    return mask


@pytest.mark.parametrize(("width", "height"), [(1600, 1600), (3200, 1600), (300, 160)])
def test_a_polygon_runs_along_the_edge_in_pixels_of_the_image(width: int, height: int) -> None:
    """Also around a hole, for a picture of any size and shape."""
    polygons = masks.trace(ring(256), width, height)
    truth = cv2.resize(ring(256), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    drawn = draw(polygons, width, height) > 0

    assert len(polygons) == 2
    assert np.count_nonzero(drawn & truth) / np.count_nonzero(drawn | truth) > 0.96


def test_a_mask_that_fills_the_image_has_its_border_as_outline() -> None:
    """The corners of the picture itself."""
    (polygon,) = masks.trace(np.full((64, 64), 255, np.uint8), 640, 480)

    assert {(round(x, -1), round(y, -1)) for x, y in polygon} == {(0, 0), (640, 0), (640, 480), (0, 480)}


def test_an_answer_stays_small() -> None:
    """Noise has thousands of edges; a comb has one very long one."""
    comb = np.zeros((256, 256), np.uint8)
    comb[:250, ::2] = 255
    comb[250:] = 255
    noise = np.random.default_rng(1).integers(0, 2, (256, 256), np.uint8) * 255
    for mask in (noise, comb):
        polygons = masks.trace(mask, 4000, 3000)

        assert len(polygons) <= 32
        assert all(3 <= len(polygon) <= 256 for polygon in polygons)
