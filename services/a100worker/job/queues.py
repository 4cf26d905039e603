"""Where jobs may wait, and in which order a worker looks: interactive first, then what its adapter is loaded for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeAlias

from shared.messages import JobClass, Task

if TYPE_CHECKING:
    from collections.abc import Callable

Line: TypeAlias = tuple[JobClass, Task]
ALL_LINES: tuple[Line, ...] = tuple((job_class, task) for job_class in JobClass for task in Task)
_RANK = {job_class: rank for rank, job_class in enumerate(JobClass)}


class Lines:
    """The lines that may hold a job, each with the moment since which nobody has looked.

    To change the task costs a load of the adapter, so of one class the loaded task goes first. Whoever stands at the
    head of another line waits no longer for that than `patience_s`, the job that runs then, and one job of each other
    line that has waited even longer.
    """

    def __init__(self, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._since: dict[Line, float] = {}
        self._loaded: Task | None = None

    def note(self, *lines: Line) -> None:
        """There may be a job."""
        for line in lines:
            self._since.setdefault(line, self._clock())

    def look(self, line: Line) -> None:
        """Somebody looks now: what is noted from here on is news."""
        self._since.pop(line, None)

    def took(self, line: Line) -> None:
        """There was one, and there may be another behind it."""
        self._loaded = line[1]
        self.note(line)

    def in_order(self) -> list[Line]:
        """Where to look, first things first."""
        late = self._clock() - self._patience_s
        return sorted(self._since, key=lambda line: self._turn(line, late))

    def _turn(self, line: Line, late: float) -> tuple[int, bool, bool, float]:
        job_class, task = line
        since = self._since[line]
        in_time = since > late
        return _RANK[job_class], in_time, in_time and task is not self._loaded, since
