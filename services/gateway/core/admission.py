"""How many jobs wait, of each user and in all, so that a full queue is refused at the door with "try again"."""

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
    """Counts from what this gateway submits and what the events say. A soft limit: replicas do not ask one another."""

    def __init__(self, *, total: int, per_user: int) -> None:
        self._total = total
        self._per_user = per_user
        self._waiting: dict[str, str] = {}  # job: user
        self._count: Counter[str] = Counter()

    def check(self, user: str) -> None:
        """Raise Busy if the user may not submit another job now."""
        if len(self._waiting) >= self._total:
            raise Busy("The queue is full, please try again in a moment.")
        if self._count[user] >= self._per_user:
            raise Busy(f"You have {self._count[user]} jobs waiting; please let some of them finish first.")

    @contextmanager
    def place(self, user: str, job_id: str) -> Iterator[None]:
        """Take a place while the job is submitted, and give it back if that fails. Raises Busy."""
        self.check(user)
        self._add(job_id, user)
        try:
            yield
        except BaseException:
            self._drop(job_id)
            raise

    def note(self, event: JobEvent) -> None:
        """Learn from an event, whoever caused it."""
        match event:
            case Queued():
                self._add(event.job_id, event.user)
            case Started() | Done() | Failed() | Cancelled():
                self._drop(event.job_id)
            case _:
                pass

    async def recount(self, ask: Callable[[], Awaitable[QueueReport]]) -> None:
        """Replace the count by the job manager's; what changes while it answers is kept."""
        before = dict(self._waiting)
        report = await ask()
        dropped = before.keys() - self._waiting.keys()
        added = {job: user for job, user in self._waiting.items() if job not in before}
        listed = {job: user for user, jobs in report.queued.items() for job in jobs if job not in dropped}
        self._waiting = listed | added
        self._count = Counter(self._waiting.values())

    def _add(self, job_id: str, user: str) -> None:
        if job_id not in self._waiting:
            self._waiting[job_id] = user
            self._count[user] += 1

    def _drop(self, job_id: str) -> None:
        user = self._waiting.pop(job_id, None)
        if user is not None:
            self._count[user] -= 1
            if not self._count[user]:
                del self._count[user]
