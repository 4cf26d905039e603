"""A queue that is fair between users and first come, first served for each of them."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class _Entry(NamedTuple, Generic[T]):
    job_id: str
    cost: float
    item: T


@dataclass(slots=True)
class _Share(Generic[T]):
    """The jobs of one user, in order, and the cost that the user may still spend in this round."""

    jobs: deque[_Entry[T]]
    deficit: float = 0.0


class FairQueue(Generic[T]):
    """Deficit round robin (Shreedhar and Varghese, SIGCOMM 1995): each turn a user may spend one quantum of cost.

    A user with ten thousand jobs delays the first job of another user by one turn only, and a user with expensive
    jobs gets fewer of them. Costs and the quantum are milliseconds of work.
    """

    def __init__(self, quantum: float) -> None:
        self._quantum = quantum
        self._shares: OrderedDict[str, _Share[T]] = OrderedDict()
        self._owners: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._owners

    def add(self, user: str, job_id: str, cost: float, item: T) -> None:
        """Append a job to the jobs of its user. A job that waits already keeps its place."""
        if job_id in self._owners:
            return
        self._owners[job_id] = user
        self._shares.setdefault(user, _Share(deque())).jobs.append(_Entry(job_id, cost, item))

    def next_id(self) -> str | None:
        """Return the id of the job that `pop` would return, or None if the queue is empty."""
        while self._shares:
            user, share = next(iter(self._shares.items()))
            entry = share.jobs[0]
            if share.deficit >= entry.cost:
                return entry.job_id
            share.deficit += self._quantum
            self._shares.move_to_end(user)
        return None

    def pop(self) -> T | None:
        """Remove and return the next job in turn, or None if the queue is empty."""
        job_id = self.next_id()
        if job_id is None:
            return None
        user = self._owners.pop(job_id)
        share = self._shares[user]
        entry = share.jobs.popleft()
        share.deficit -= entry.cost
        self._drop_if_idle(user)
        return entry.item

    def remove(self, job_id: str) -> T | None:
        """Remove a job from anywhere in the queue and return it, or None if it does not wait."""
        user = self._owners.pop(job_id, None)
        if user is None:
            return None
        share = self._shares[user]
        entry = next(entry for entry in share.jobs if entry.job_id == job_id)
        share.jobs.remove(entry)
        self._drop_if_idle(user)
        return entry.item

    def in_turn(self, limit: int) -> list[T]:
        """Return up to `limit` jobs in their approximate order: one job of each user per round."""
        order: list[T] = []
        rest = [iter(share.jobs) for share in self._shares.values()]
        while rest and len(order) < limit:
            still = []
            for jobs in rest:
                entry = next(jobs, None)
                if entry is not None:
                    order.append(entry.item)
                    still.append(jobs)
            rest = still
        return order[:limit]

    def ahead_of_new(self, user: str) -> int:
        """Return how many jobs would start before a new job of this user."""
        own = len(self._shares[user].jobs) if user in self._shares else 0
        return sum(min(len(share.jobs), own + 1) for name, share in self._shares.items() if name != user) + own

    def _drop_if_idle(self, user: str) -> None:
        if not self._shares[user].jobs:
            del self._shares[user]  # so an idle user does not save up a deficit
