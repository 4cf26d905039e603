"""The engine for machines without a GPU: LaMa, PatchMatch, compositing, and the image utilities' white balance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.a100worker.backend import Edit, Engine
from services.a100worker.backends.classical.insertion import insert
from services.a100worker.backends.classical.removal import remove
from services.a100worker.backends.lama.laptop import LaptopLama
from services.a100worker.backends.patchmatch.filler import Filler
from shared.errors import EngineFailed
from shared.messages import Task

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
        loading("checking LaMa")
        self._lama = LaptopLama.find(settings.model_dir, settings.removal_filler)
        self._filler = Filler() if patchmatch_available else None
        seeded = frozenset({"seed"}) if self._filler or self._lama else frozenset()
        self.obeys = {Task.REMOVAL: seeded | {"variant"}, Task.WHITE_BALANCE: frozenset({"strength", "temperature"})}
        self.facts = {
            "removal": ", ".join(["lama"] * bool(self._lama) + ["patchmatch"] * bool(self._filler)) or "smooth"
        }

    def remove(self, job: RemovalInputs, step: StepReporter) -> Edit:
        """Fill the marked holes with LaMa or PatchMatch."""
        return remove(job, step, self._filler, self._lama)

    def insert(self, job: InsertionInputs, step: StepReporter) -> Edit:
        """Compose a copy of the object into each marked region."""
        return insert(job, step)

    def balance(self, job: WhiteBalanceInputs, step: StepReporter) -> Edit:
        """Return the image that the image utilities have balanced."""
        step(0, 1, "Balancing the colours")
        balanced = job.fetch_balanced()
        if balanced.shape != job.image.shape:
            raise EngineFailed("The balanced image has another size.")
        step(1, 1)
        return Edit(balanced, None, (("input", job.image),))

    def close(self) -> None:
        """End the child processes."""
        for filler in (self._filler, self._lama):
            if filler is not None:
                filler.close()
