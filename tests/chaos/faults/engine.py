"""The scripted engine with harmful prompts: it dies, raises, hangs, freezes its worker, or sends requests."""

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
    """The scripted engine, with the harmful prompts above."""

    def remove(self, job: RemovalInputs, step: StepReporter) -> Edit:
        """See Scripted. Raises RuntimeError for one of the prompts."""
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
            threading.Event().wait()  # forever, ignores a cancel, and keeps the lease
        case "chaos:freeze":
            # PyDLL keeps the interpreter lock: the whole worker freezes, its lease ends, and then it continues.
            ctypes.PyDLL(None).usleep(int(1e6 * float(os.environ.get("CHAOS_FREEZE_S", PAST_THE_LEASE_S))))
        case "chaos:dawdle":
            threading.Event().wait(PAST_THE_LEASE_S)  # like an engine in native code: only the lease is kept
