"""Estimates durations from measured jobs. A task has no estimate before its first job is done."""

from __future__ import annotations

import math
import time
from bisect import bisect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.messages import Task

UNKNOWN_MS = 1000.0  # the cost of a job without an estimate in the fair queue
_UNKNOWN_POWER = 0.5  # how durations grow with the pixels, while only one size is measured
_WEIGHT = 0.2  # of the newest measurement: the mean follows a change of hardware within a few jobs
# A worker has events when it starts and ends a job. So it counts for two of the longest jobs, and for two minutes while
# jobs are short.
_MIN_ACTIVE_S = 120.0
_ACTIVE_JOBS = 2.0


class DurationEstimator:
    """Keeps exponentially weighted mean durations by task, size and steps, and counts the active workers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mean_ms: dict[tuple[Task, int, int], float] = {}
        self._seen_at: dict[str, float] = {}

    def record(self, task: Task, pixels: int, steps: int, took_ms: float) -> None:
        """Add the measured duration of a job."""
        kind = _kind(task, pixels, steps)
        mean = self._mean_ms.get(kind, took_ms)
        self._mean_ms[kind] = mean + _WEIGHT * (took_ms - mean)

    def duration_ms(self, task: Task, pixels: int, steps: int) -> float | None:
        """Estimate a duration from the measured sizes of the task; None if the task was never measured."""
        _, size, count = _kind(task, pixels, steps)
        counts = {kind[2] for kind in self._mean_ms if kind[0] == task}
        if not counts:
            return None
        nearest = min(counts, key=lambda known: (abs(known - count), known))
        return _at(size, {kind[1]: mean for kind, mean in self._mean_ms.items() if kind[::2] == (task, nearest)})

    def see_worker(self, worker: str) -> None:
        """Note that an event of a worker has arrived. Do not call it for an event of the past."""
        self._seen_at[worker] = self._clock()

    def worker_count(self) -> int:
        """Return how many workers had a recent event, at least one, and forget the others."""
        oldest = self._clock() - self._active_s()
        self._seen_at = {name: at for name, at in self._seen_at.items() if at > oldest}
        return max(1, len(self._seen_at))

    def _active_s(self) -> float:
        longest_ms = max(self._mean_ms.values(), default=0.0)
        return max(_MIN_ACTIVE_S, _ACTIVE_JOBS * longest_ms / 1000)


def _at(size: int, means: dict[int, float]) -> float:
    """Return the mean duration at a size, a power of two: between two measured ones, or beyond the nearest.

    The duration grows with the size, at most in proportion; with a single measured size, with the square root.
    """
    if size in means:
        return means[size]
    low, high = _neighbours(size, sorted(means))
    power = _UNKNOWN_POWER
    if low != high and means[low] > 0 and means[high] > 0:
        power = min(1.0, max(0.0, math.log2(means[high] / means[low]) / (high - low)))
    start = low if abs(size - low) <= abs(size - high) else high
    return means[start] * math.exp2(power * (size - start))


def _neighbours(size: int, known: list[int]) -> tuple[int, int]:
    """Return the two measured sizes around a size, or the two at its end; a single one twice."""
    place = min(max(bisect(known, size), 1), max(1, len(known) - 1))
    return known[place - 1], known[min(place, len(known) - 1)]


def _kind(task: Task, pixels: int, steps: int) -> tuple[Task, int, int]:
    """Return the class of a measurement: the task, and the powers of two nearest to its pixels and steps."""
    return task, round(math.log2(max(1, pixels))), round(math.log2(max(1, steps)))
