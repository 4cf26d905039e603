"""The line of one class of jobs: fair between users, first come first served for each of them."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Share(Generic[T]):
    """One user's part of the line."""

    jobs: deque[tuple[str, float, T]]  # job id, cost, item
    deficit: float = 0.0


class FairQueue(Generic[T]):
    """Deficit round robin (Shreedhar and Varghese, SIGCOMM 1995): each turn a user may spend one quantum of cost.

    A user with ten thousand jobs delays another's first job by one turn only, and whoever sends expensive jobs gets
    fewer of them. Costs and the quantum are milliseconds of work.
    """

    def __init__(self, quantum: float) -> None:
        self._quantum = quantum
        self._shares: OrderedDict[str, _Share[T]] = OrderedDict()
        self._owner: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._owner)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._owner

    def add(self, user: str, job_id: str, cost: float, item: T) -> None:
        """Put a job at the end of its user's part; an id that waits already keeps its place."""
        if job_id in self._owner:
            return
        self._owner[job_id] = user
        self._shares.setdefault(user, _Share(deque())).jobs.append((job_id, cost, item))

    def pop(self) -> T | None:
        """Take the job whose turn it is."""
        while self._shares:
            user, share = next(iter(self._shares.items()))
            job_id, cost, item = share.jobs[0]
            if share.deficit < cost:
                share.deficit += self._quantum
                self._shares.move_to_end(user)
                continue
            share.deficit -= cost
            share.jobs.popleft()
            del self._owner[job_id]
            if not share.jobs:
                del self._shares[user]  # an idle user saves nothing up
            return item
        return None

    def remove(self, job_id: str) -> T | None:
        """Take a job out of the line, wherever it stands."""
        user = self._owner.pop(job_id, None)
        if user is None:
            return None
        share = self._shares[user]
        entry = next(job for job in share.jobs if job[0] == job_id)
        share.jobs.remove(entry)
        if not share.jobs:
            del self._shares[user]
        return entry[2]

    def in_turn(self, limit: int) -> list[T]:
        """Return who comes next, about in order: one job of each user a round."""
        order: list[T] = []
        queues = [iter(share.jobs) for share in self._shares.values()]
        while queues and len(order) < limit:
            still = []
            for queue in queues:
                entry = next(queue, None)
                if entry is not None:
                    order.append(entry[2])
                    still.append(queue)
            queues = still
        return order[:limit]

    def ahead_of_new(self, user: str) -> int:
        """How many jobs would start before a new one of this user."""
        mine = len(self._shares[user].jobs) if user in self._shares else 0
        return sum(min(len(share.jobs), mine + 1) for name, share in self._shares.items() if name != user) + mine
