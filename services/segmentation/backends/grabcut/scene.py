"""The context of one request, shared by all stages: the image, its saliency, and the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from services.segmentation.geometry import whole_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from services.segmentation.backend import CachedFeatures, Checkpoint
    from services.segmentation.geometry import Box, Frame
    from services.segmentation.saliency import Saliency
    from shared.image_codec import Grey, Rgb

WORK_PX = 512
SALIENT = 127  # saliency .5


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One image during one request. Without weights `saliency` is None and nothing is salient."""

    image: Rgb
    saliency: Saliency | None
    cached: CachedFeatures
    checkpoint: Checkpoint

    @property
    def limits(self) -> Box:
        """The whole image."""
        return whole_image(self.image)

    def predict_saliency(self, window: Box, frame: Frame) -> Grey:
        """Predict the saliency of a window and resample it to the frame; 0 outside the window."""
        self.checkpoint()
        if self.saliency is None:
            return np.zeros((frame.height, frame.width), np.uint8)
        return frame.sample(self.saliency.predict(self.image, self.cached, window), window)


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """The initial labels for GrabCut (cv2.GC_*, uint8) in a frame, and their score, 0 to 1."""

    frame: Frame
    labels: Grey
    score: float
    box: Box | None = None
    """The drawn box. The mask ends in it or near its sides; see `boxes.end_at_edges`."""
    cut: float = 0.0
    """How much of the border of its view the object touches, 0 to 1."""
    is_plain: bool = False
    """Whether the draft is from colours alone: its mask fills a cluttered box, which makes its fit too good."""
    is_bounded: bool = False
    """Whether the mask must end at the sides of the drawn box, also where no edge is."""


class Ended(NamedTuple):
    """A mask, and the share of its outline that is not an edge of the object, 0 to 1.

    For a drawn box this is the share of the outline near a side where the object runs on, for clicks the `cut` of the
    draft.
    """

    mask: Grey
    cut: float


def components(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Label the connected parts of a mask from 1; 0 is the rest."""
    return np.asarray(cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1])
