"""The order in which a worker polls the queues: interactive jobs first, then jobs of the active adapter's task."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeAlias

from shared.messages import JobClass, Task

if TYPE_CHECKING:
    from collections.abc import Callable

Queue: TypeAlias = tuple[JobClass, Task]
ALL_QUEUES: tuple[Queue, ...] = tuple((job_class, task) for job_class in JobClass for task in Task)
_RANK = {job_class: rank for rank, job_class in enumerate(JobClass)}


class PollOrder:
    """The queues that may hold a job, and the order in which to poll them.

    A change of the task needs a switch of the adapter, so within a class the queue of the active task comes first. The
    first job of another queue waits for them at most `max_wait_s`, plus the time of the job that then runs, plus that
    of one job of each queue that has waited even longer.
    """

    def __init__(self, max_wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._marked_at: dict[Queue, float] = {}
        self._active: Task | None = None

    def mark(self, *queues: Queue) -> None:
        """Note that the queues may hold a job. A queue that is already marked keeps its time."""
        for queue in queues:
            self._marked_at.setdefault(queue, self._clock())

    def clear(self, queue: Queue) -> None:
        """Remove the mark of a queue. Call it before the poll, so that no later mark is lost."""
        self._marked_at.pop(queue, None)

    def mark_taken(self, queue: Queue) -> None:
        """Note that a job was taken from the queue: its task is active now, and another job may follow."""
        self._active = queue[1]
        self.mark(queue)

    def list_queues(self) -> list[Queue]:
        """Return the marked queues in the order in which to poll them."""
        overdue = self._clock() - self._max_wait_s
        return sorted(self._marked_at, key=lambda queue: self._sort_key(queue, overdue))

    def _sort_key(self, queue: Queue, overdue: float) -> tuple[int, bool, bool, float]:
        job_class, task = queue
        marked_at = self._marked_at[queue]
        in_time = marked_at > overdue
        return _RANK[job_class], in_time, in_time and task is not self._active, marked_at
