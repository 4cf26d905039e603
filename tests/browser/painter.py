"""An engine that sends a green preview with its first step. Then it waits, unless the prompt asks for speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.backends.scripted import Scripted
from shared.errors import JobCancelled

if TYPE_CHECKING:
    from services.a100worker.backend import Edit, RemovalInputs, StepReporter, WhiteBalanceInputs
    from shared.image_codec import Rgb

GREEN = (20, 200, 80)
QUICK = "quick"


class Painter(Scripted):
    """An engine that never finishes by itself, so a test does not depend on timing."""

    def remove(self, job: RemovalInputs, step: StepReporter) -> Edit:
        """Wait for a cancel, or finish at once if the prompt asks for it. Raises JobCancelled."""
        if job.prompt == QUICK:
            return super().remove(job, step)
        return wait_for_cancel(job.image, step)

    def balance(self, job: WhiteBalanceInputs, step: StepReporter) -> Edit:
        """Wait for a cancel. Raises JobCancelled."""
        return wait_for_cancel(job.image, step)


def wait_for_cancel(image: Rgb, step: StepReporter) -> Edit:
    """Send a preview with the first step, then wait for the job's cancel. Raises JobCancelled."""
    step(1, 4, preview=np.full_like(image, GREEN))
    step.cancel_flag.wait()
    raise JobCancelled
