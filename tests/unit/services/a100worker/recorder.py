"""A step that remembers, and small jobs to run with it."""

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
"""What an engine is made with: the defaults, and nobody who hears of its loading."""
SAMPLES = Path(__file__).parents[4] / "services/gateway/static/samples"


class Recorder:
    """What a worker hands to an engine: it keeps what the engine says; `cancel_at` that many steps it cancels."""

    def __init__(self, cancel_at: int | None = None) -> None:
        self.cancel_flag = CancelFlag()
        self.steps: list[tuple[int, int]] = []
        self.messages: list[str | None] = []
        self.previews: list[Rgb] = []
        self._cancel_at = cancel_at

    def __call__(self, done: int, total: int, message: str | None = None, preview: Preview | None = None) -> None:
        """Note the step, and each preview; raise JobCancelled when cancelled."""
        if preview is not None:
            self.previews.append(preview() if callable(preview) else preview)
        self.steps.append((done, total))
        self.messages.append(message)
        if len(self.steps) == self._cancel_at:
            self.cancel_flag.set()
        if self.cancel_flag.is_set():
            raise JobCancelled


def photo(name: str) -> Rgb:
    """A sample photo that nothing can write to."""
    return frozen(decode_photo((SAMPLES / f"{name}.jpg").read_bytes()).rgb)


def noise(height: int, width: int, seed: int = 1) -> Rgb:
    """A picture in which every pixel is another."""
    return frozen(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def box_mask(height: int, width: int, *boxes: tuple[int, int, int, int]) -> Grey:
    """A mask of left, top, right, bottom boxes."""
    mask = np.zeros((height, width), np.uint8)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 255
    return frozen(mask)


def frozen(array: Rgb) -> Rgb:
    """The same array, read-only: whoever writes to it fails the test."""
    array.setflags(write=False)
    return array


def removal(image: Rgb, mask: Grey, **more: Any) -> RemovalInputs:
    """Return a removal with the options that matter to the test."""
    return RemovalInputs(image=image, mask=mask, **more)


def insertion(image: Rgb, mask: Grey, reference: Rgb, **more: Any) -> InsertionInputs:
    """Return an insertion with the options that matter to the test."""
    return InsertionInputs(image=image, mask=mask, reference=reference, **more)


def balance(image: Rgb, **more: Any) -> WhiteBalanceInputs:
    """Return a white balance whose balanced image is the negative."""
    return WhiteBalanceInputs(**{"image": image, "fetch_balanced": lambda: np.asarray(255 - image), **more})


def job(task: Task, image: Rgb, mask: Grey, reference: Rgb, **more: Any) -> TaskInputs:
    """Return a job of any task; it leaves out what the task does not need."""
    match task:
        case Task.REMOVAL:
            return removal(image, mask, **more)
        case Task.INSERTION:
            return insertion(image, mask, reference, **more)
        case Task.WHITE_BALANCE:
            return balance(image, **more)
    assert_never(task)
