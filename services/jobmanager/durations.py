"""How fast jobs are done: learnt from those that are, and nothing is promised before one of its kind was measured."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.messages import Task

UNKNOWN_MS = 1000.0  # what an unmeasured job counts when users share
_WEIGHT = 0.2  # of the newest measurement: a handful of jobs after a change of hardware
_AT_WORK_S = 120.0  # a worker that started nothing for so long is not counted on


class DurationEstimator:
    """Exponentially weighted mean durations by task, size and steps, and the number of workers at work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mean_ms: dict[tuple[Task, int, int], float] = {}
        self._workers: dict[str, float] = {}

    def record(self, task: Task, pixels: int, steps: int, took_ms: float) -> None:
        """Take one measurement in."""
        kind = _kind(task, pixels, steps)
        mean = self._mean_ms.get(kind, took_ms)
        self._mean_ms[kind] = mean + _WEIGHT * (took_ms - mean)

    def duration_ms(self, task: Task, pixels: int, steps: int) -> float | None:
        """Expected milliseconds, from the nearest size of the same task; None if the task was never measured."""
        _, size, count = _kind(task, pixels, steps)
        known = [(kind, mean) for kind, mean in self._mean_ms.items() if kind[0] == task]
        if not known:
            return None
        return min(known, key=lambda item: (abs(item[0][1] - size), abs(item[0][2] - count)))[1]

    def see_worker(self, worker: str) -> None:
        """Note that a worker has just started a job."""
        now = self._clock()
        self._workers[worker] = now
        self._workers = {name: at for name, at in self._workers.items() if now - at < _AT_WORK_S}

    def worker_count(self) -> int:
        """Return how many workers share the work, at least one."""
        return max(1, len(self._workers))


def _kind(task: Task, pixels: int, steps: int) -> tuple[Task, int, int]:
    """Sizes and step counts are told apart by factors of two."""
    return task, round(math.log2(max(1, pixels))), round(math.log2(max(1, steps)))
