"""Small jobs for the tiny diffusion model, of one size, because each new one costs it seconds of setting up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.unit.services.a100worker.recorder import box_mask, frozen, job, photo

if TYPE_CHECKING:
    from typing import Any

    from services.a100worker.backend import TaskInputs
    from shared.image_codec import Rgb
    from shared.messages import Task

HEIGHT, WIDTH = 92, 109  # no multiples of 16, within 128 x 128 pixels
MASK = box_mask(HEIGHT, WIDTH, (30, 20, 60, 70))


def piece(name: str = "cat", height: int = HEIGHT, width: int = WIDTH) -> Rgb:
    """Return a corner of a sample photo."""
    return frozen(np.ascontiguousarray(photo(name)[40 : 40 + height, 60 : 60 + width]))


def edit_of(task: Task, name: str = "cat", **more: Any) -> TaskInputs:
    """Return a job of three steps."""
    options = {"seed": 5, "steps": 3, **more}
    return job(task, piece(name), MASK, piece("coffee"), **options)
