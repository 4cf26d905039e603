"""The volume of each owner in the streams that drop their oldest message when full, and its removable part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from shared import subjects
from shared.job_events import load_submission
from shared.jobs import is_end
from shared.marks import remove_debug_images
from shared.messages import DebugSession, JobRecord, JobState
from shared.reading import read_or_skip
from shared.topology import JOB_DLQ, JOB_EV, JOB_LOG, JOBS, SESSIONS, bucket_stream

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage
    from shared.image_store import StoredImages

_OPEN = tuple(f'"state":"{state}"'.encode() for state in (JobState.QUEUED, JobState.RUNNING))


@dataclass(frozen=True, slots=True)
class Holding:
    """One job, letter or session of an owner; sizes count within one kind only."""

    owner: str
    key: str
    """What `remove` needs."""
    size: int
    spare: int
    """The part that `remove` frees; 0 if it must stay."""


class Holdings(Protocol):
    """One kind of owners' data. All methods raise BrokerUnavailable."""

    @property
    def streams(self) -> tuple[str, ...]:
        """Return where it is stored: it is read when one of them is nearly full."""

    async def read(self) -> list[Holding]:
        """Return all of it, the oldest first."""

    async def remove(self, holding: Holding) -> None:
        """Remove the spare part of one."""


class Records:
    """The records of jobs. Those of jobs that have not ended stay.

    A submission goes with its record: without one, its job would count as new.
    """

    streams = (JOBS,)

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(self) -> list[Holding]:
        """See Holdings."""
        return [_record(stored) async for page in self._bus.pages(JOBS, subjects.ALL_RECORDS) for stored in page]

    async def remove(self, holding: Holding) -> None:
        """See Holdings."""
        record = read_or_skip(JobRecord, await self._bus.last(JOBS, holding.key))
        submission = None if record is None else await load_submission(self._bus, record)
        if submission is not None:
            same_id = subjects.submissions_of(submission.subject.rpartition(".")[2])
            if await self._bus.first(JOB_LOG, same_id, submission.seq) is not None:
                return  # a later submission counts as a replay only while this one exists
            await self._bus.delete(JOB_LOG, submission.seq)
        await self._bus.purge(JOBS, holding.key)


def _record(stored: StoredMessage) -> Holding:
    size = len(stored.data) + len(stored.subject)
    is_open = any(state in stored.data for state in _OPEN)
    return Holding(subjects.owner_of_entry(stored.subject), stored.subject, size, 0 if is_open else size)


class Events:
    """The events of jobs. For an ended job the terminal event stays, so that no second one is stored."""

    streams = (JOB_EV,)

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(self) -> list[Holding]:
        """See Holdings."""
        owners = await _owners_of_jobs(self._bus)
        sizes: dict[str, int] = {}
        ends: dict[str, int] = {}
        async for page in self._bus.pages(JOB_EV, subjects.ALL_EVENTS):
            for stored in page:
                job_id, size = stored.subject.split(".")[2], len(stored.data) + len(stored.subject)
                sizes[job_id] = sizes.get(job_id, 0) + size
                ends.pop(job_id, None)  # no valid event follows the terminal event
                if subjects.kind_of_event(stored.subject) == subjects.TERMINAL and is_end(stored):
                    ends[job_id] = size
        return [
            Holding(owners.get(job_id, ""), job_id, size, size - ends[job_id] if job_id in ends else 0)
            for job_id, size in sizes.items()
        ]

    async def remove(self, holding: Holding) -> None:
        """See Holdings."""
        await self._bus.purge(JOB_EV, subjects.events_of(holding.key), keep=1)


class Letters:
    """Dead letters. A letter without a known job counts for an owner without a name."""

    streams = (JOB_DLQ,)

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def read(self) -> list[Holding]:
        """See Holdings."""
        owners = await _owners_of_jobs(self._bus)
        found = []
        async for page in self._bus.pages(JOB_DLQ, subjects.ALL_DEAD):
            for stored in page:
                owner, size = owners.get(stored.subject.rpartition(".")[2], ""), len(stored.data)
                found.append(Holding(owner, str(stored.seq), size, size))
        return found

    async def remove(self, holding: Holding) -> None:
        """See Holdings."""
        await self._bus.delete(JOB_DLQ, int(holding.key))


class Sessions:
    """Debug sessions with their images, in pixels."""

    streams = (SESSIONS, bucket_stream("debug"))

    def __init__(self, bus: Bus, images: StoredImages) -> None:
        self._bus = bus
        self._images = images

    async def read(self) -> list[Holding]:
        """See Holdings."""
        found = []
        for stored in await self._bus.history(SESSIONS, subjects.ALL_SESSIONS):
            session = read_or_skip(DebugSession, stored)
            size = 1 + sum(image.width * image.height for image in session.images) if session else 1
            found.append(Holding(subjects.owner_of_entry(stored.subject), stored.subject, size, size))
        return found

    async def remove(self, holding: Holding) -> None:
        """See Holdings."""
        session = read_or_skip(DebugSession, await self._bus.last(SESSIONS, holding.key))
        await self._bus.purge(SESSIONS, holding.key)
        await remove_debug_images(self._bus, self._images, [session] if session else [])


async def _owners_of_jobs(bus: Bus) -> dict[str, str]:
    owners = {}
    for subject in await bus.subjects_in(JOBS, subjects.ALL_RECORDS):
        owners[subject.rpartition(".")[2]] = subjects.owner_of_entry(subject)
    return owners
