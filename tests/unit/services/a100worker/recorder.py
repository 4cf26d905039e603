"""A step reporter that records, and small jobs to run with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from services.a100worker.backend import InsertionInputs, RemovalInputs, WhiteBalanceInputs
from services.a100worker.cancel_flag import CancelFlag
from services.a100worker.settings import Settings
from shared.errors import JobCancelled
from shared.image_codec import decode_photo
from shared.messages import Task

if TYPE_CHECKING:
    from services.a100worker.backend import Preview, TaskInputs
    from shared.image_codec import Grey, Rgb

SETUP = (Settings(), lambda _: None)
"""The arguments of an engine: default settings, and a phase reporter that does nothing."""
SAMPLES = Path(__file__).parents[4] / "services/gateway/static/samples"


class Recorder:
    """Records the steps of an engine, and copies of its previews. With `cancel_at` it cancels at that many calls."""

    def __init__(self, cancel_at: int | None = None, *, previews: bool = True) -> None:
        self.cancel_flag = CancelFlag()
        self.steps: list[tuple[int, int]] = []
        self.messages: list[str | None] = []
        self.previews: list[Rgb] = []
        self._cancel_at = cancel_at
        self._keeps_previews = previews

    def __call__(self, done: int, total: int, message: str | None = None, preview: Preview | None = None) -> None:
        """Record the step and its preview. Raise JobCancelled after a cancel."""
        if preview is not None and self._keeps_previews:
            self.previews.append((preview() if callable(preview) else preview).copy())
        self.steps.append((done, total))
        self.messages.append(message)
        if len(self.steps) == self._cancel_at:
            self.cancel_flag.set()
        if self.cancel_flag.is_set():
            raise JobCancelled


def photo(name: str) -> Rgb:
    """Return a sample photo, read-only."""
    return frozen(decode_photo((SAMPLES / f"{name}.jpg").read_bytes()).rgb)


def noise(height: int, width: int, seed: int = 1) -> Rgb:
    """Return a picture of random pixels."""
    return frozen(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def box_mask(height: int, width: int, *boxes: tuple[int, int, int, int]) -> Grey:
    """Return a mask that marks boxes of left, top, right, bottom."""
    mask = np.zeros((height, width), np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 255
    return frozen(mask)


def frozen(array: Rgb) -> Rgb:
    """Return the same array, read-only, so that a write to it fails the test."""
    array.setflags(write=False)
    return array


def removal(image: Rgb, mask: Grey, **more: Any) -> RemovalInputs:
    """Return a removal with the options that matter to the test."""
    return RemovalInputs(image=image, mask=mask, **more)


def insertion(image: Rgb, mask: Grey, reference: Rgb, **more: Any) -> InsertionInputs:
    """Return an insertion with the options that matter to the test."""
    return InsertionInputs(image=image, mask=mask, reference=reference, **more)


def balance(image: Rgb, **more: Any) -> WhiteBalanceInputs:
    """Return a white balance with the negative as the balanced image."""
    return WhiteBalanceInputs(**{"image": image, "fetch_balanced": lambda: np.asarray(255 - image), **more})


def job(task: Task, image: Rgb, mask: Grey, reference: Rgb, **more: Any) -> TaskInputs:
    """Return a job of any task with the inputs that it needs."""
    match task:
        case Task.REMOVAL:
            return removal(image, mask, **more)
        case Task.INSERTION:
            return insertion(image, mask, reference, **more)
        case Task.WHITE_BALANCE:
            return balance(image, **more)
    assert_never(task)
