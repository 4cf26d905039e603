"""An engine that shows how far it is: a green picture with its first step. Then it waits, unless asked to be quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.backends.scripted import Scripted
from shared.errors import JobCancelled

if TYPE_CHECKING:
    from services.a100worker.backend import Edit, RemovalInputs, StepReporter

GREEN = (20, 200, 80)
QUICK = "quick"


class Painter(Scripted):
    """Never done by itself: what a test sees of it does not hang on when it looks."""

    def remove(self, job: RemovalInputs, step: StepReporter) -> Edit:
        """Wait for a cancel; be done at once where the prompt says so. Raises JobCancelled."""
        if job.prompt == QUICK:
            return super().remove(job, step)
        step(1, 4, preview=np.full_like(job.image, GREEN))
        step.cancel_flag.wait()
        raise JobCancelled
