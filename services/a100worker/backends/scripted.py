"""An engine for load tests: it does what the prompt's script says, in exactly the time that it says."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.backend import Edit
from shared.errors import JobCancelled

if TYPE_CHECKING:
    from services.a100worker.backend import EditInputs, Loading, Step
    from services.a100worker.settings import Settings
    from shared.image_codec import Rgb


_MAX_INTERVAL_MS = 3_600_000.0


@dataclass(frozen=True, slots=True)
class Script:
    """How many steps, how far apart."""

    steps: int
    interval_s: float


class Scripted:
    """Counts steps; not for people, who expect their picture to be edited."""

    name = "scripted"

    def __init__(self, settings: Settings, loading: Loading) -> None:
        del settings, loading  # no weights

    def edit(self, job: EditInputs, step: Step) -> Edit:
        """Step as the prompt says, each with the message `ts:<monotonic ns>`. Raises JobCancelled."""
        script = read_script(job.prompt, job.steps)
        for done in range(1, script.steps + 1):
            if step.cancelled.wait(script.interval_s):
                raise JobCancelled
            step(done, script.steps, f"ts:{time.monotonic_ns()}")
        if job.mask is None:
            return Edit(job.image.copy(), None)
        region = np.where(job.mask > 0, np.uint8(255), np.uint8(0))
        return Edit(_marked(job.image, region > 0, job.seed), region)

    def close(self) -> None:
        """Nothing to give back."""


def read_script(prompt: str, steps: int) -> Script:
    """Read `{"steps": N, "interval_ms": M}`; anything else means the job's own steps, without waiting."""
    try:
        script = json.loads(prompt)
        interval_ms = min(max(0.0, float(script["interval_ms"])), _MAX_INTERVAL_MS)
        return Script(max(0, int(script["steps"])), interval_ms / 1000)
    except (ValueError, KeyError, TypeError, OverflowError):
        return Script(steps, 0.0)


def _marked(image: Rgb, inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], seed: int) -> Rgb:
    """Paint the seed's colour inside."""
    result = image.copy()
    result[inside] = np.random.default_rng(seed).integers(0, 256, 3, dtype=np.uint8)
    return result
