"""Initial labels for GrabCut from the saliency and the clicks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.segmentation.backend import Click
    from services.segmentation.geometry import Frame
    from shared.image_codec import Grey

_SURE = 217  # saliency .85
_POSSIBLE = 10  # saliency .04
_NEAR_SHARE = 0.01  # share of the long side: band around the object where the background is not sure
_REACH = 0.7  # share of the distance to the nearest opposite click
_REACH_SHARE = 0.18  # share of the long side


def from_saliency(prior: Grey, chosen: Grey) -> Grey:
    """Label `chosen` (255) as object, sure where the saliency is high, and a band around it as probable background."""
    side = 2 * round(_NEAR_SHARE * max(prior.shape)) + 1
    near = cv2.dilate(chosen, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    labels = np.full(prior.shape, cv2.GC_BGD, np.uint8)
    labels[(prior > _POSSIBLE) | (near > 0)] = cv2.GC_PR_BGD
    labels[chosen > 0] = cv2.GC_PR_FGD
    labels[(chosen > 0) & (prior > _SURE)] = cv2.GC_FGD
    return labels


def loosen_around(labels: Grey, frame: Frame, clicks: Sequence[Click], reach_share: float = _REACH_SHARE) -> None:
    """Make the labels in a disc around each contradicting click unsure, in place.

    The disc reaches 0.7 of the way to the nearest opposite click and at most `reach_share` of the frame's long side.
    """
    placed = [(*frame.to_frame(click.x, click.y), click.positive) for click in clicks]
    for x, y, positive in placed:
        if positive == is_object(labels, x, y):
            continue
        gaps = [float(np.hypot(x - other_x, y - other_y)) for other_x, other_y, other in placed if other != positive]
        opened = np.zeros_like(labels)
        fill_disc(opened, x, y, min([_REACH * gap for gap in gaps] + [reach_share * max(labels.shape)]))
        overruled = (cv2.GC_BGD, cv2.GC_PR_BGD) if positive else (cv2.GC_FGD, cv2.GC_PR_FGD)
        labels[(opened > 0) & np.isin(labels, overruled)] = cv2.GC_PR_FGD if positive else cv2.GC_PR_BGD


def is_object(labels: Grey, x: float, y: float) -> bool:
    """Return whether the label at a point of the frame is sure or probable object; False outside the frame."""
    height, width = labels.shape
    if not (0 <= x < width and 0 <= y < height):
        return False
    return labels[int(y), int(x)] in {cv2.GC_FGD, cv2.GC_PR_FGD}


def fill_disc(pixels: Grey, x: float, y: float, radius: float, value: int = 255) -> None:
    """Fill a disc of at least one pixel's radius in place, clipped to the array."""
    cv2.circle(pixels, (round(x), round(y)), max(1, round(radius)), value, thickness=-1)
