"""Paints the windows of a job into its photo, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import cv2
import numpy as np

from services.a100worker.backend import blend
from services.a100worker.backends.qwen.scenes.scene import Scene
from services.a100worker.imaging.pasting import Patch, to_native
from shared.errors import JobCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.a100worker.backend import Preview, StepReporter
    from services.a100worker.cancel_flag import CancelFlag
    from services.a100worker.imaging.windows import Window
    from shared.image_codec import Grey, Rgb

S = TypeVar("S", bound=Scene)
_PREVIEW_PX = 256  # long side of the photo in a preview


@dataclass(frozen=True, slots=True)
class Painted(Generic[S]):
    """The photo with all windows painted."""

    image: Rgb
    region: Grey  # 0 where the image is byte-identical to the photo
    windows: tuple[tuple[Window, S], ...]


def paint_windows(
    image: Rgb,
    windows: Sequence[Window],
    make_scene: Callable[[Rgb, Window], S],
    paint: Callable[[S, int, StepReporter], Rgb],
    seed: int,
    step: StepReporter,
    notice: str | None = None,
) -> Painted[S]:
    """Paint each window into the photo; a later window shows the pixels of the earlier ones. Raises JobCancelled.

    `paint` takes a scene and its seed, and returns an image of the scene's frame. The user reads the notice until the
    first step is done.
    """
    result, region = image.copy(), np.zeros(image.shape[:2], np.uint8)
    scenes = []
    for number, window in enumerate(windows):
        scene = make_scene(result, window)
        share = np.full(scene.photo.shape[:2], 255, np.uint8) if scene.region is None else scene.region
        own_seed = derive_seed(seed, number)
        steps = WindowSteps(step, number, len(windows), _Overview(result, window, share), notice)
        part = window.box.slices
        patch = Patch(scene.frame.crop(paint(scene, own_seed, steps)), scene.frame.scale, share, own_seed)
        photo = np.ascontiguousarray(result[part])
        result[part] = blend(photo, to_native(patch, photo), share)
        region[part] = np.maximum(region[part], share)
        scenes.append((window, scene))
    return Painted(result, region, tuple(scenes))


def derive_seed(seed: int, number: int) -> int:
    """Return the seed of a window; the first has the job's."""
    if number == 0:
        return seed
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)


class WindowSteps:
    """Counts the steps of one window among those of all, and shows its previews inside the whole photo."""

    def __init__(
        self, step: StepReporter, number: int, count: int, overview: _Overview, notice: str | None = None
    ) -> None:
        self._step = step
        self._number = number
        self._count = count
        self._overview = overview
        self._notice = notice

    @property
    def cancel_flag(self) -> CancelFlag:
        """See StepReporter."""
        return self._step.cancel_flag

    def __call__(self, done: int, total: int, message: str | None = None, preview: Preview | None = None) -> None:
        """See StepReporter."""
        if done == 0 and self._number:  # already reported as the last step of the previous window
            if self.cancel_flag.is_set():
                raise JobCancelled
            return
        if done == 0 and self._notice is not None:
            message = self._notice
        if done == total and self._number + 1 < self._count:
            message = f"Painting region {self._number + 2} of {self._count}"
        inside = None if preview is None else partial(self._overview.around, preview)
        self._step(self._number * total + done, self._count * total, message, inside)


class _Overview:
    """The whole photo, small, with a window's preview at its place."""

    def __init__(self, image: Rgb, window: Window, region: Grey) -> None:
        scale = min(1.0, _PREVIEW_PX / max(image.shape))
        self._photo = _shrink(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)))
        box, (height, width) = window.box, self._photo.shape[:2]
        left, top = min(width - 1, int(box.x * scale)), min(height - 1, int(box.y * scale))
        right = min(width, max(left + 1, round((box.x + box.width) * scale)))
        bottom = min(height, max(top + 1, round((box.y + box.height) * scale)))
        self._part = slice(top, bottom), slice(left, right)
        self._region = _shrink(region, (right - left, bottom - top))

    def around(self, preview: Preview) -> Rgb:
        """Return the photo with the preview inside the region."""
        small = preview() if callable(preview) else preview
        height, width = self._region.shape
        seen = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        result = self._photo.copy()
        result[self._part] = blend(np.ascontiguousarray(result[self._part]), seen, self._region)
        return result


def _shrink(image: Rgb | Grey, size: tuple[int, int]) -> Rgb:
    width, height = max(1, size[0]), max(1, size[1])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
