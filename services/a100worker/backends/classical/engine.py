"""The engine for machines without a GPU: PatchMatch removes, alpha compositing inserts, a sister service balances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.a100worker.backend import Edit
from services.a100worker.backends.classical.insertion import insert
from services.a100worker.backends.classical.removal import remove
from services.a100worker.backends.patchmatch.filler import Filler
from shared.errors import EngineFailed
from shared.messages import Task

try:
    from patchmatch import patchmatch_available
except ImportError:
    patchmatch_available = False

if TYPE_CHECKING:
    from services.a100worker.backend import EditInputs, Loading, Step
    from services.a100worker.settings import Settings


class Classical:
    """Edits with classical image processing, on the CPU. Prompts have no effect: use a model where words matter."""

    name = "classical"

    def __init__(self, settings: Settings, loading: Loading) -> None:
        del settings, loading  # no weights
        self._filler = Filler() if patchmatch_available else None

    def edit(self, job: EditInputs, step: Step) -> Edit:
        """Run one job. Raises BadInput, EngineFailed or JobCancelled."""
        match job.task:
            case Task.REMOVAL:
                return remove(job, step, self._filler)
            case Task.INSERTION:
                return insert(job, step)
            case Task.WHITE_BALANCE:
                return _balance(job, step)

    def close(self) -> None:
        """End the child process."""
        if self._filler is not None:
            self._filler.close()


def _balance(job: EditInputs, step: Step) -> Edit:
    step(0, 1, "Balancing the colours")
    balanced = job.balanced()
    if balanced.shape != job.image.shape:
        raise EngineFailed("The balanced picture has another size.")
    step(1, 1)
    return Edit(balanced, None, (("input", job.image),))
