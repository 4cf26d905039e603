"""Finds the edits before an edit: a further edit starts from the last result, and the receipt names all steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shared import subjects
from shared.errors import JobDeleted, NotFound
from shared.messages import Done
from shared.topology import OWNED

if TYPE_CHECKING:
    from services.gateway.access.ownership import Ownership
    from services.gateway.core.jobs import Jobs
    from shared.bus import Bus
    from shared.messages import JobRecord, JobSubmit

MOST_EDITS = 64
"""Of one chain: each costs about six reads of the broker."""
_DELETED = "You have deleted the edit with this result, so nothing more is known about it or the edits before it."
_EXPIRED = "The edit with this result has expired, so nothing more is known about it or the edits before it."
_NO_INPUTS = "The submission has expired, so the inputs of this edit and the edits before it are not known."
_TOO_LONG = f"Only the last {MOST_EDITS} edits are listed; this is the result of the one before them."


class Known(NamedTuple):
    """A finished edit; its submission is None if it has expired in the log."""

    record: JobRecord
    done: Done
    submission: JobSubmit | None


@dataclass(frozen=True, slots=True)
class Step:
    """An edit by the hash of its result. `note` is the reason if this edit or those before it are not known."""

    output: str
    known: Known | None = None
    note: str | None = None


class Chains:
    """Finds the edits of one owner that led to an edit. Methods raise BrokerUnavailable."""

    def __init__(self, bus: Bus, ownership: Ownership, jobs: Jobs) -> None:
        self._bus = bus
        self._ownership = ownership
        self._jobs = jobs

    async def steps_before(self, owner: str, record: JobRecord, submission: JobSubmit | None) -> list[Step]:
        """Return the steps before an edit, the last one first, back to a picture that no job of the owner gave."""
        steps: list[Step] = []
        while submission is not None:
            step = await self.find(owner, submission.image, record.created_at)
            if step is None:
                break
            if len(steps) == MOST_EDITS:
                steps.append(Step(step.output, note=_TOO_LONG))
                break
            steps.append(step)
            if step.known is None:
                break
            record, _, submission = step.known
        return steps

    async def find(self, owner: str, output: str, before: float) -> Step | None:
        """Return the owner's edit with this result, submitted before that time; None if there was none.

        An edit that changes nothing has its own input as result, so one that was submitted later is no step. The mark
        of a result stays after its eviction and after the deletion of its job.
        """
        lost = ""
        for mark in await self._bus.history(OWNED, self._ownership.result_marks(owner, output)):
            found = await self._load(owner, subjects.job_of_result_mark(mark.subject))
            if isinstance(found, str):
                lost = lost or found
            elif found.done.result.sha256 == output and found.record.created_at < before:
                return Step(output, found, _NO_INPUTS if found.submission is None else None)
        return Step(output, note=lost) if lost else None

    async def _load(self, owner: str, job_id: str) -> Known | str:
        """Return a finished edit, or the reason why it is not known; the reason is empty for a job without a result."""
        try:
            record = await self._jobs.find(owner, job_id)
        except JobDeleted:
            return _DELETED
        except NotFound:
            return _EXPIRED
        if not isinstance(record.ended, Done):
            return _EXPIRED if record.ended is None else ""
        return Known(record, record.ended, await self._jobs.submission_of(record))
