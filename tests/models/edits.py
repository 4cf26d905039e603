"""Small jobs for the tiny diffusion model, of one size, because each new one costs it seconds of setting up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.messages import Task
from tests.unit.services.a100worker.recorder import box_mask, frozen, job, photo

if TYPE_CHECKING:
    from typing import Any

    from services.a100worker.backend import EditInputs
    from shared.image_codec import Rgb

HEIGHT, WIDTH = 92, 109  # no multiples of 16, within 128 x 128 pixels
MASK = box_mask(HEIGHT, WIDTH, (30, 20, 60, 70))


def piece(name: str = "cat", height: int = HEIGHT, width: int = WIDTH) -> Rgb:
    """A corner of a sample photo."""
    return frozen(np.ascontiguousarray(photo(name)[40 : 40 + height, 60 : 60 + width]))


def edit_of(task: Task, name: str = "cat", **more: Any) -> EditInputs:
    """A job of three steps."""
    wanted = {"seed": 5, "steps": 3, "reference": piece("coffee")} | more
    return job(task, piece(name), None if task is Task.WHITE_BALANCE else MASK, **wanted)
