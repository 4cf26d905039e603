"""The scripted engine with a will to do harm: a few prompts make it die, throw, freeze its worker, or ask around."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING

from services.a100worker.backends.scripted import Scripted

if TYPE_CHECKING:
    from services.a100worker.backend import Edit, EditInputs, Step

DIE, THROW, FREEZE, DAWDLE, ASK = "chaos:die", "chaos:throw", "chaos:freeze", "chaos:dawdle", "chaos:ask"
LEASE_S = 2.0
PAST_THE_LEASE_S = 1.4 * LEASE_S


class Hostile(Scripted):
    """Scripted, but for the prompts above."""

    def edit(self, job: EditInputs, step: Step) -> Edit:
        """See Scripted. Raises RuntimeError when told to."""
        match job.prompt:
            case "chaos:die":
                os._exit(9)
            case "chaos:throw":
                raise RuntimeError("The prompt said so.")
            case "chaos:freeze":
                # PyDLL keeps the interpreter lock: the whole worker stands still, its lease ends, and then it goes on.
                ctypes.PyDLL(None).usleep(int(PAST_THE_LEASE_S * 1e6))
            case "chaos:dawdle":
                threading.Event().wait(PAST_THE_LEASE_S)  # as an engine in native code: only the lease is kept
            case "chaos:ask":
                job.balanced()
                job.saliency()
        return super().edit(job, step)
