"""The images of a removal: the object's window with the object filled over, tinted, boxed or blackened out."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from services.a100worker.backend import grey_to_rgb
from services.a100worker.backends.qwen.frames import Frame
from services.a100worker.backends.qwen.recipes.recipe import View
from services.a100worker.backends.qwen.scenes import scene
from services.a100worker.imaging import holes
from services.a100worker.imaging.pasting import fade_at_edges, feather_px
from services.a100worker.imaging.windows import LEAST_PX, boxes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.a100worker.backend import RemovalInputs
    from services.a100worker.backends.lama.fill import Fill
    from services.a100worker.imaging.windows import Window
    from shared.image_codec import Grey, Rgb

_BRUSH_PX = 35  # in the frame: in the adapters' training, fills reached so far beyond a brushed mask
_RED = (255, 0, 0)
_BOX_LINE_PX = 3


class RemovalScene:
    """One window of a removal. `image` is the photo with the windows before this one already painted."""

    def __init__(
        self,
        job: RemovalInputs,
        image: Rgb,
        window: Window,
        area: int,
        fill: Fill,
        saliency: Grey | None,
        *,
        wide: bool = False,
    ) -> None:
        """Scale the window into its frame. `wide` fills far beyond the mask, as in the adapters' training.

        Raises BadInput if the mask is empty or leaves nothing to fill the hole from.
        """
        part = window.box.slices
        mask = np.ascontiguousarray(job.mask[part])
        self.frame = Frame.of(window.box.width, window.box.height, area, LEAST_PX)
        self.photo = self.frame.enter(image[part])
        self.mask = self.frame.enter_mask(mask)
        hole = holes.grow(mask)
        soft = holes.feather(hole, mask, feather_px(self.frame.scale))
        self.region: Grey | None = fade_at_edges(soft, window.box, image.shape)
        self.hole = self._hole(self.frame.enter_mask(hole), wide=wide)
        self._fill = fill
        self._saliency = None if saliency is None else self.frame.enter_grey(saliency[part])

    @property
    def views(self) -> Mapping[View, Callable[[], Rgb]]:
        """See Scene."""
        return {
            View.PHOTO: lambda: self.photo,
            View.FILLED: lambda: self.filling,
            View.TINTED: lambda: scene.tint(self.photo, self.mask),
            View.BOXED: self._draw_boxes,
            View.HOLLOW: lambda: scene.blacken(self.photo, self.mask),
            View.MASK: lambda: grey_to_rgb(self.mask),
        }

    @cached_property
    def filling(self) -> Rgb:
        """The photo without the object. Raises JobCancelled, EngineFailed."""
        return self._fill(self.photo, self.hole, self._saliency)

    def _hole(self, grown: Grey, *, wide: bool) -> Grey:
        """Return the pixels to fill."""
        hole = np.asarray(cv2.dilate(self.mask, scene.disc(_BRUSH_PX)), np.uint8) if wide else grown
        return self.mask if hole.all() else hole

    def _draw_boxes(self) -> Rgb:
        boxed = self.photo.copy()
        for box in boxes_of(self.mask):
            corner = box.x + box.width - 1, box.y + box.height - 1
            cv2.rectangle(boxed, (box.x, box.y), corner, _RED, _BOX_LINE_PX)
        return boxed
