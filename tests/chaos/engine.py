"""The scripted engine with a will to do harm: prompts make it die, throw, hang, freeze its worker, or ask around."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING

from services.a100worker.backends.scripted import Scripted

if TYPE_CHECKING:
    from services.a100worker.backend import Edit, InsertionInputs, RemovalInputs, StepReporter, WhiteBalanceInputs

DIE, THROW, HANG, FREEZE, DAWDLE, ASK = (
    f"chaos:{what}" for what in ("die", "throw", "hang", "freeze", "dawdle", "ask")
)
LEASE_S = 2.0
PAST_THE_LEASE_S = 1.4 * LEASE_S


class Hostile(Scripted):
    """Scripted, but for the prompts above."""

    def remove(self, job: RemovalInputs, step: StepReporter) -> Edit:
        """See Scripted. Raises RuntimeError when told to."""
        _harm(job.prompt)
        if job.prompt == ASK:
            job.fetch_saliency()
        return super().remove(job, step)

    def insert(self, job: InsertionInputs, step: StepReporter) -> Edit:
        """See `remove`."""
        _harm(job.prompt)
        return super().insert(job, step)

    def balance(self, job: WhiteBalanceInputs, step: StepReporter) -> Edit:
        """See `remove`."""
        _harm(job.prompt)
        if job.prompt == ASK:
            job.fetch_balanced()
        return super().balance(job, step)


def _harm(prompt: str) -> None:
    match prompt:
        case "chaos:die":
            os._exit(9)
        case "chaos:throw":
            raise RuntimeError("The prompt said so.")
        case "chaos:hang":
            threading.Event().wait()  # for ever, deaf to a cancel, and the lease is kept
        case "chaos:freeze":
            # PyDLL keeps the interpreter lock: the whole worker stands still, its lease ends, and then it goes on.
            ctypes.PyDLL(None).usleep(int(1e6 * float(os.environ.get("CHAOS_FREEZE_S", PAST_THE_LEASE_S))))
        case "chaos:dawdle":
            threading.Event().wait(PAST_THE_LEASE_S)  # as an engine in native code: only the lease is kept
