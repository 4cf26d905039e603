"""An engine that sends a green preview with its first step. Then it waits, unless the prompt asks for speed."""

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
    """An engine that never finishes by itself, so a test does not depend on timing."""

    def remove(self, job: RemovalInputs, step: StepReporter) -> Edit:
        """Wait for a cancel, or finish at once if the prompt asks for it. Raises JobCancelled."""
        if job.prompt == QUICK:
            return super().remove(job, step)
        step(1, 4, preview=np.full_like(job.image, GREEN))
        step.cancel_flag.wait()
        raise JobCancelled
