"""An engine for load tests: it runs the script in the prompt, with exactly the scripted times."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.backend import Edit, Engine
from shared.errors import JobCancelled

if TYPE_CHECKING:
    from services.a100worker.backend import (
        EditInputs,
        InsertionInputs,
        PhaseReporter,
        RemovalInputs,
        StepReporter,
        WhiteBalanceInputs,
    )
    from services.a100worker.settings import Settings
    from shared.image_codec import Grey, Rgb


_MAX_INTERVAL_MS = 3_600_000.0


@dataclass(frozen=True, slots=True)
class Script:
    """The number of steps, the time between two of them, and whether each offers a preview."""

    steps: int
    interval_s: float
    previews: bool = False


class Scripted(Engine):
    """Reports scripted steps and paints a plain colour. For load tests only."""

    name = "scripted"

    def __init__(self, settings: Settings, loading: PhaseReporter) -> None:
        del settings, loading  # no weights

    def remove(self, job: RemovalInputs, step: StepReporter) -> Edit:
        """Run the script, then paint the masked region in a colour that depends on the seed."""
        run_script(job, step)
        return _paint(job.image, job.mask, job.seed)

    def insert(self, job: InsertionInputs, step: StepReporter) -> Edit:
        """Run the script, then paint the masked region in a colour that depends on the seed."""
        run_script(job, step)
        return _paint(job.image, job.mask, job.seed)

    def balance(self, job: WhiteBalanceInputs, step: StepReporter) -> Edit:
        """Run the script and return the image unchanged."""
        run_script(job, step)
        return Edit(job.image.copy(), None)

    def close(self) -> None:
        """Do nothing: the engine holds nothing."""


def run_script(job: EditInputs, step: StepReporter) -> None:
    """Take the steps of the prompt's script, each with the message `ts:<monotonic ns>`. Raises JobCancelled."""
    script = parse_script(job.prompt, job.steps)
    for done in range(1, script.steps + 1):
        if step.cancel_flag.wait(script.interval_s):
            raise JobCancelled
        preview = job.image if script.previews else None
        step(done, script.steps, f"ts:{time.monotonic_ns()}", preview)


def parse_script(prompt: str, steps: int) -> Script:
    """Parse `{"steps": N, "interval_ms": M}`, perhaps with `"previews": true`.

    Any other prompt gives the job's own steps without waiting.
    """
    try:
        script = json.loads(prompt)
        interval_ms = min(max(0.0, float(script["interval_ms"])), _MAX_INTERVAL_MS)
        return Script(max(0, int(script["steps"])), interval_ms / 1000, script.get("previews") is True)
    except (ValueError, KeyError, TypeError, OverflowError):
        return Script(steps, 0.0)


def _paint(image: Rgb, mask: Grey, seed: int) -> Edit:
    region = np.where(mask > 0, np.uint8(255), np.uint8(0))
    result = image.copy()
    result[region > 0] = np.random.default_rng(seed).integers(0, 256, 3, dtype=np.uint8)
    return Edit(result, region)
