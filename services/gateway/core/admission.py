"""The queue limits: a full queue refuses new jobs before they are stored."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.errors import Busy
from shared.messages import Cancelled, Done, Failed, JobEvent, Queued, Started

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from shared.messages import QueueReport


class Admission:
    """Counts queued jobs, per owner and in total, from this gateway's submissions and all events.

    The limits are soft: replicas do not coordinate.
    """

    def __init__(self, *, total: int, per_user: int) -> None:
        self._total = total
        self._per_user = per_user
        self._owners: dict[str, str] = {}  # by job id
        self._count: Counter[str] = Counter()  # by owner

    def check(self, owner: str) -> None:
        """Raise Busy if the owner or the queue is at its limit."""
        if len(self._owners) >= self._total:
            raise Busy("The queue is full, please try again in a moment.")
        if self._count[owner] >= self._per_user:
            raise Busy(f"You have {self._count[owner]} jobs waiting; please wait until some of them have finished.")

    @contextmanager
    def place(self, owner: str, job_id: str) -> Iterator[None]:
        """Count the job while it is submitted; stop counting it if the submission fails. Raises Busy."""
        self.check(owner)
        self._add(job_id, owner)
        try:
            yield
        except BaseException:
            self._drop(job_id)
            raise

    def note(self, event: JobEvent) -> None:
        """Update the counts from an event."""
        match event:
            case Queued():
                self._add(event.job_id, event.user)
            case Started() | Done() | Failed() | Cancelled():
                self._drop(event.job_id)
            case _:
                pass

    async def recount(self, query: Callable[[], Awaitable[QueueReport]]) -> None:
        """Replace the counts by the job manager's report; keep the changes that happen during the query."""
        before = dict(self._owners)
        report = await query()
        dropped = before.keys() - self._owners.keys()
        added = {job_id: owner for job_id, owner in self._owners.items() if job_id not in before}
        queued = {job_id: owner for owner, jobs in report.queued.items() for job_id in jobs if job_id not in dropped}
        self._owners = queued | added
        self._count = Counter(self._owners.values())

    def _add(self, job_id: str, owner: str) -> None:
        if job_id not in self._owners:
            self._owners[job_id] = owner
            self._count[owner] += 1

    def _drop(self, job_id: str) -> None:
        owner = self._owners.pop(job_id, None)
        if owner is not None:
            self._count[owner] -= 1
            if not self._count[owner]:
                del self._count[owner]
