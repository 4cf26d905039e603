"""When each step takes the noise away: by the model's own scheduler, by a fixed shift, or in four or eight steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from diffusers import FlowMatchEulerDiscreteScheduler

if TYPE_CHECKING:
    from services.a100worker.settings import Settings


class Schedules:
    """All that are needed, made once: a job that wants another one than the last costs nothing."""

    def __init__(self, own: Any, settings: Settings) -> None:
        self._own = self._flow = own
        if settings.qwen_lightning == "off":
            self._flow = FlowMatchEulerDiscreteScheduler.from_config(
                own.config, use_dynamic_shifting=False, shift=settings.qwen_flow_shift
            )
        else:
            # As the publishers of the Lightning adapters do, whatever a job asks for: they know no other schedule.
            self._own = self._flow = FlowMatchEulerDiscreteScheduler.from_config(
                own.config, base_shift=math.log(3), max_shift=math.log(3), shift_terminal=None
            )

    def of(self, *, flow_match: bool) -> Any:
        """Return that of a job; `flow_match` shifts by a fixed amount instead of one that grows with the picture."""
        return self._flow if flow_match else self._own
