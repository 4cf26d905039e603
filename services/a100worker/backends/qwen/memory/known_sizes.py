"""Remembers which fallback a size of job needed, so that the next job of that size does not run out of memory first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from services.a100worker.backends.qwen.memory.oom_fallback import Fallback

if TYPE_CHECKING:
    from collections.abc import Hashable

_MOST_SIZES = 256


class KnownSizes:
    """The fallbacks of the sizes that failed in this process; other sizes start without one."""

    def __init__(self) -> None:
        self._needed: OrderedDict[Hashable, Fallback] = OrderedDict()

    def fallbacks(self, size: Hashable) -> list[Fallback]:
        """Return the fallbacks to try for a size, in this order."""
        return [fallback for fallback in Fallback if fallback >= self._needed.get(size, Fallback.NONE)]

    def clear(self) -> None:
        """Clear the table: every size starts without a fallback again."""
        self._needed.clear()

    def record(self, size: Hashable, fallback: Fallback) -> None:
        """Note that a job of this size succeeded with a fallback; the sizes noted longest ago are forgotten."""
        if fallback is Fallback.NONE:
            return
        self._needed[size] = fallback
        self._needed.move_to_end(size)
        if len(self._needed) > _MOST_SIZES:
            self._needed.popitem(last=False)
