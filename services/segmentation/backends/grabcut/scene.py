"""What every stage of the default engine needs to know of a request: the picture, its saliency, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation.geometry import whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from services.segmentation.backend import Recall
    from services.segmentation.geometry import Frame, Window
    from services.segmentation.saliency import Saliency
    from shared.image_codec import Grey, Rgb

WORK_PX = 512
SALIENT = 127  # saliency .5


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One picture during one request. Without weights `saliency` is None and nothing stands out."""

    image: Rgb
    saliency: Saliency | None
    recall: Recall
    checkpoint: Callable[[], None]

    @property
    def limits(self) -> Window:
        """The whole picture."""
        return whole(self.image)

    def look(self, window: Window, frame: Frame) -> Grey:
        """Look at a window for what stands out in it; return that in the frame, 0 where the window does not reach."""
        self.checkpoint()
        if self.saliency is None:
            return np.zeros((frame.height, frame.width), np.uint8)
        return frame.sample(self.saliency.look(self.image, self.recall, window), window)


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A guess for GrabCut to correct: labels (cv2.GC_*, uint8) of a frame, and how likely they are meant, 0 to 1."""

    frame: Frame
    labels: Grey
    score: float
    within: Window | None = None
    """Nothing outside of it is taken, not even a soft edge."""


def components(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the connected parts of a mask from 1; 0 is the rest."""
    return np.asarray(cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1])
