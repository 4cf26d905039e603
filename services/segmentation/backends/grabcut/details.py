"""Test cheaply, by colour alone, whether a click lies on a small distinct object, such as an eye or a badge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.segmentation.backends.grabcut.cut import cut
from services.segmentation.backends.grabcut.trimap import fill_disc
from services.segmentation.geometry import Frame, square_box

if TYPE_CHECKING:
    from services.segmentation.backend import Click
    from services.segmentation.backends.grabcut.scene import Scene

_VIEW = 0.3  # share of the image's long side
_SIDE_PX = 96  # GrabCut takes about 15 ms, a tenth of one run of the network
_DISC, _SURE_PX = 0.12, 2  # the start of the object: a share of the view, and its sure part
_RIM = 1 / 24  # share of the view: surely background
_SPECK = 0.012  # share of the view: smaller masks are a highlight or a hair


def stands_out(scene: Scene, click: Click) -> bool:
    """Return whether GrabCut separates something around a point from the rest of a close view."""
    side = max(1, round(_VIEW * scene.limits.long_side))
    frame = Frame.fit(square_box(click.x, click.y, side, scene.limits), _SIDE_PX)
    x, y = frame.to_frame(click.x, click.y)
    labels = np.full((frame.height, frame.width), cv2.GC_BGD, np.uint8)
    rim = max(1, round(_RIM * _SIDE_PX))
    labels[rim:-rim, rim:-rim] = cv2.GC_PR_BGD
    fill_disc(labels, x, y, _DISC * _SIDE_PX, cv2.GC_PR_FGD)
    fill_disc(labels, x, y, _SURE_PX, cv2.GC_FGD)
    mask = cut(scene, frame, frame.crop(scene.image), labels)
    return bool(np.count_nonzero(mask) >= _SPECK * mask.size)
