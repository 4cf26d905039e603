"""The engine for machines without a GPU: PatchMatch, alpha compositing, and the image utilities' white balance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.a100worker.backend import Edit, Engine
from services.a100worker.backends.classical.insertion import insert
from services.a100worker.backends.classical.removal import remove
from services.a100worker.backends.patchmatch.filler import Filler
from shared.errors import EngineFailed

try:
    from patchmatch import patchmatch_available
except ImportError:
    patchmatch_available = False

if TYPE_CHECKING:
    from services.a100worker.backend import (
        InsertionInputs,
        PhaseReporter,
        RemovalInputs,
        StepReporter,
        WhiteBalanceInputs,
    )
    from services.a100worker.settings import Settings


class Classical(Engine):
    """Edits with classical image processing on the CPU. It ignores prompts."""

    name = "classical"

    def __init__(self, settings: Settings, loading: PhaseReporter) -> None:
        del settings, loading  # no weights
        self._filler = Filler() if patchmatch_available else None

    def remove(self, job: RemovalInputs, step: StepReporter) -> Edit:
        """Fill the marked holes with PatchMatch."""
        return remove(job, step, self._filler)

    def insert(self, job: InsertionInputs, step: StepReporter) -> Edit:
        """Compose a copy of the object into each marked region."""
        return insert(job, step)

    def balance(self, job: WhiteBalanceInputs, step: StepReporter) -> Edit:
        """Return the image as the image utilities balance it."""
        step(0, 1, "Balancing the colours")
        balanced = job.fetch_balanced()
        if balanced.shape != job.image.shape:
            raise EngineFailed("The balanced image has another size.")
        step(1, 1)
        return Edit(balanced, None, (("input", job.image),))

    def close(self) -> None:
        """End the child process."""
        if self._filler is not None:
            self._filler.close()
