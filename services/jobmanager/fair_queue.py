"""A queue that is fair between owners and first come, first served for each of them."""

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
    """The jobs of one owner, in order, and the cost that the owner may still spend in this round."""

    jobs: deque[_Entry[T]]
    deficit: float = 0.0


class FairQueue(Generic[T]):
    """Deficit round robin (Shreedhar and Varghese, SIGCOMM 1995): each turn an owner may spend one quantum of cost.

    An owner with ten thousand jobs delays the first job of another owner by one turn only, and an owner with expensive
    jobs gets fewer of them. Costs and the quantum are milliseconds of work.
    """

    def __init__(self, quantum: float) -> None:
        self._quantum = quantum
        self._shares: OrderedDict[str, _Share[T]] = OrderedDict()
        self._owner_of: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._owner_of)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._owner_of

    def add(self, owner: str, job_id: str, cost: float, item: T) -> None:
        """Append a job to the jobs of its owner. A job that waits already keeps its place."""
        if job_id in self._owner_of:
            return
        self._owner_of[job_id] = owner
        self._shares.setdefault(owner, _Share(deque())).jobs.append(_Entry(job_id, cost, item))

    def next_id(self) -> str | None:
        """Return the id of the job that `pop` would return, or None if the queue is empty."""
        while self._shares:
            owner, share = next(iter(self._shares.items()))
            entry = share.jobs[0]
            if share.deficit >= entry.cost:
                return entry.job_id
            share.deficit += self._quantum
            self._shares.move_to_end(owner)
        return None

    def pop(self) -> T | None:
        """Remove and return the next job in turn, or None if the queue is empty."""
        job_id = self.next_id()
        if job_id is None:
            return None
        owner = self._owner_of.pop(job_id)
        share = self._shares[owner]
        entry = share.jobs.popleft()
        share.deficit -= entry.cost
        self._drop_if_idle(owner)
        return entry.item

    def remove(self, job_id: str) -> T | None:
        """Remove a job from anywhere in the queue and return it, or None if it does not wait."""
        owner = self._owner_of.pop(job_id, None)
        if owner is None:
            return None
        share = self._shares[owner]
        entry = next(entry for entry in share.jobs if entry.job_id == job_id)
        share.jobs.remove(entry)
        self._drop_if_idle(owner)
        return entry.item

    def in_turn(self, limit: int) -> list[T]:
        """Return up to `limit` jobs in their approximate order: one job of each owner per round."""
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

    def ahead_of_new(self, owner: str) -> int:
        """Return how many jobs would start before a new job of this owner."""
        own = len(self._shares[owner].jobs) if owner in self._shares else 0
        return sum(min(len(share.jobs), own + 1) for name, share in self._shares.items() if name != owner) + own

    def _drop_if_idle(self, owner: str) -> None:
        if not self._shares[owner].jobs:
            del self._shares[owner]  # so an idle owner does not save up a deficit
