"""What every stage of the default engine needs to know of a request: the picture, its saliency, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """One picture during one request. Without weights `saliency` is None and nothing stands out."""

    image: Rgb
    saliency: Saliency | None
    cached: CachedFeatures
    checkpoint: Checkpoint

    @property
    def limits(self) -> Box:
        """The whole picture."""
        return whole_image(self.image)

    def predict_saliency(self, window: Box, frame: Frame) -> Grey:
        """Look at a window for what stands out in it; return that in the frame, 0 where the window does not reach."""
        self.checkpoint()
        if self.saliency is None:
            return np.zeros((frame.height, frame.width), np.uint8)
        return frame.sample(self.saliency.predict(self.image, self.cached, window), window)


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A guess for GrabCut to correct: labels (cv2.GC_*, uint8) of a frame, and how likely they are meant, 0 to 1."""

    frame: Frame
    labels: Grey
    score: float
    within: Box | None = None
    """Nothing outside of it is taken, not even a soft edge."""


def components(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the connected parts of a mask from 1; 0 is the rest."""
    return np.asarray(cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1])
