"""Fills holes with LaMa if its file is on the volume, else with PatchMatch, else smoothly."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from services.a100worker.backends.lama.lama import Lama
from services.a100worker.backends.patchmatch.filler import Filler
from services.a100worker.imaging import holes
from services.a100worker.imaging.filling import fill_hole, fill_smoothly, fill_specks

try:
    from patchmatch import patchmatch_available
except ImportError:
    patchmatch_available = False

if TYPE_CHECKING:
    from pathlib import Path

    from services.a100worker.backend import EditInputs, StepReporter
    from services.a100worker.imaging.filling import Search
    from shared.image_codec import Grey, Rgb


class Fill(Protocol):
    """Fills the hole of one image."""

    def __call__(self, image: Rgb, hole: Grey, saliency: Grey | None) -> Rgb:
        """Return the image with every nonzero pixel of `hole` filled. Raises JobCancelled, EngineFailed."""


class HoleFiller:
    """Owns the LaMa session and the PatchMatch process; `close` ends them. For one job at a time."""

    def __init__(self, models: Path, device: str) -> None:
        """Open LaMa if its file is there. Raises ConfigError if the file cannot be read."""
        self._lama = Lama.find(models, device)
        self._patches = Filler() if patchmatch_available else None

    def of(self, job: EditInputs, step: StepReporter) -> Fill:
        """Return the fill function of one job; it stops when the job is cancelled."""
        return partial(_fill, self._search(job, step), job.seed)

    def _search(self, job: EditInputs, step: StepReporter) -> Search:
        if self._lama is not None:
            return self._lama.fill
        if self._patches is not None:
            return partial(self._patches.fill, seed=job.seed, cancel_flag=step.cancel_flag)
        return fill_smoothly

    def close(self) -> None:
        """End the child process, if there is one."""
        if self._patches is not None:
            self._patches.close()


def _fill(search: Search, seed: int, image: Rgb, hole: Grey, saliency: Grey | None) -> Rgb:
    parts, specks = holes.split(hole, saliency)
    filled = image.copy()
    for part in parts:
        fill_hole(filled, part, search, seed)
    fill_specks(filled, specks)
    return filled
