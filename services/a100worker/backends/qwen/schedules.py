"""The noise schedules: the model's own, one with a fixed shift, and that of the Lightning adapters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from diffusers import FlowMatchEulerDiscreteScheduler

if TYPE_CHECKING:
    from services.a100worker.settings import Settings


class Schedules:
    """Builds all schedules once, so that a change between jobs costs nothing."""

    def __init__(self, own: Any, settings: Settings) -> None:
        self._own = self._flow = own
        if settings.qwen_lightning == "off":
            self._flow = FlowMatchEulerDiscreteScheduler.from_config(
                own.config, use_dynamic_shifting=False, shift=settings.qwen_flow_shift
            )
        else:
            # Lightning adapters were trained for one schedule; their publishers also use it for every job.
            self._own = self._flow = FlowMatchEulerDiscreteScheduler.from_config(
                own.config, base_shift=math.log(3), max_shift=math.log(3), shift_terminal=None
            )

    def of(self, *, flow_match: bool) -> Any:
        """Return the schedule of a job; `flow_match` shifts by a fixed amount, not by one that grows with the size."""
        return self._flow if flow_match else self._own
