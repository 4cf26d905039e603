"""Decides which images, jobs, debug sessions and requests an owner has.

Images are named by their hash, so the name alone must not give access. The broker keeps an entry for each owner and
image under the owner's subject. An image or job of another owner therefore costs the same reads as one that does not
exist, and neither the response nor its time shows the difference.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from cachetools import TTLCache

from shared import subjects
from shared.errors import WrongLastSequence
from shared.marks import NEVER, REMOVED, Mark, read_mark, write_mark
from shared.topology import JOB_LOG, JOBS, OWNED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.bus import Bus
    from shared.messages import JobRecord

    LoadJob = Callable[[str], Awaitable[JobRecord | None]]

_RENEW_AFTER_S = 600.0  # the least recently used image goes first
_CLOCK_SKEW_S = 60.0
_CACHE_S = 60.0
_CACHE_ENTRIES = 8192


class Ownership(Protocol):
    """The ownership questions of a gateway. All async methods raise BrokerUnavailable."""

    async def owns_image(self, owner: str, sha256: str) -> bool:
        """Return whether the owner uploaded this image or received it from a service; note that it is used."""

    async def owns_result(self, owner: str, sha256: str) -> bool:
        """Return whether a job of the owner has this result. Raises BrokerUnavailable."""

    async def is_marked(self, owner: str, sha256: str, *, cached: bool = True) -> bool:
        """Return whether the image is stored as the owner's; an open gateway's owner has others, too."""

    async def still_owns_image(self, owner: str, sha256: str) -> bool:
        """Return the same as `owns_image`, from the broker."""

    async def still_has(self, owner: str, sha256: str) -> bool:
        """Return whether the owner has the input of a new job, as an image or as a result, from the broker.

        A result that is edited further counts as never used: it is evicted before other results.
        """

    def cached_seq(self, owner: str, sha256: str) -> int:
        """Return the sequence of the image's mark as it was last seen, within the last minute; else 0."""

    async def add_image(self, owner: str, sha256: str, size_bytes: int) -> None:
        """Make the owner one of the image's owners. Call it before the bytes are stored."""

    async def add_first(self, owner: str, sha256: str, size_bytes: int) -> bool:
        """Do the same for an image that the owner never had; return False for one that the owner has or had."""

    async def remove_image(self, owner: str, sha256: str) -> bool:
        """Make the owner no longer one of the image's owners; return whether the owner was. A result is no upload."""

    def marks(self, owner: str) -> tuple[str, ...]:
        """Return the subject patterns of the owner's marks in the bucket `owned`."""

    def result_marks(self, owner: str, sha256: str) -> str:
        """Return the subject pattern of the marks of the owner's jobs that have this result."""

    async def owned_job(self, owner: str, job_id: str, load: LoadJob) -> JobRecord | None:
        """Return the state of the owner's job, read with `load`; None if the owner has no such job.

        Raises BadMessage for an impossible id.
        """

    def add_job(self, owner: str, job_id: str) -> None:
        """Remember a job that was just submitted; the broker's log already holds it."""

    def job_records(self, owner: str) -> str:
        """Return the subject pattern of the owner's records in the bucket `jobs`."""

    def debug_session(self, owner: str, name: str) -> str:
        """Return the subject pattern of the owner's debug session of this name."""

    def debug_sessions(self, owner: str) -> str:
        """Return the subject pattern of the owner's entries in the bucket `sessions`."""

    def new_request_id(self, owner: str) -> str:
        """Return an id for a request to a service."""

    def owns_request(self, owner: str, request_id: str) -> bool:
        """Return whether the owner made this request."""


class _ImageMarks:
    """The owners of images. A found mark is cached for a minute, an absent one never."""

    owns_unmarked = False
    """Whether every image is owned that was not removed."""

    def __init__(
        self, bus: Bus, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` gives seconds since the epoch; `monotonic` gives the age of cached entries."""
        self._bus = bus
        self._clock = clock
        # By owner and hash: the sequence of the mark.
        self._known: TTLCache[tuple[str, str], int] = TTLCache(_CACHE_ENTRIES, _CACHE_S, monotonic)

    async def owns_image(self, owner: str, sha256: str) -> bool:
        """See Ownership."""
        return (owner, sha256) in self._known or await self.still_owns_image(owner, sha256)

    async def owns_result(self, owner: str, sha256: str) -> bool:
        """See Ownership."""
        stored = await self._bus.history(OWNED, self.result_marks(owner, sha256))
        return any(read_mark(mark.data) is not None for mark in stored)

    def result_marks(self, owner: str, sha256: str) -> str:
        """See Ownership."""
        everybody = self.owns_unmarked
        return subjects.result_marks_of(sha256) if everybody else subjects.result_marks_by(owner, sha256)

    async def is_marked(self, owner: str, sha256: str, *, cached: bool = True) -> bool:
        """See Ownership."""
        return (cached and (owner, sha256) in self._known) or bool(await self._read(owner, sha256))

    async def still_owns_image(self, owner: str, sha256: str) -> bool:
        """See Ownership."""
        is_marked = await self._read(owner, sha256)
        return self.owns_unmarked if is_marked is None else is_marked

    async def still_has(self, owner: str, sha256: str) -> bool:
        """See Ownership."""
        is_marked = await self._read(owner, sha256)
        is_result = not is_marked and await self._edit_result(owner, sha256)
        return is_marked or is_result or (self.owns_unmarked and is_marked is None)

    async def _edit_result(self, owner: str, sha256: str) -> bool:
        is_result = False
        for stored in await self._bus.history(OWNED, self.result_marks(owner, sha256)):
            mark = read_mark(stored.data)
            if mark is not None and mark.used_at != NEVER:
                with contextlib.suppress(WrongLastSequence):  # removed meanwhile, or edited by another job
                    await self._bus.publish(stored.subject, write_mark(mark.size_bytes, NEVER), expect_last=stored.seq)
            is_result |= mark is not None
        return is_result

    def cached_seq(self, owner: str, sha256: str) -> int:
        """See Ownership."""
        return self._known.get((owner, sha256), 0)

    async def _read(self, owner: str, sha256: str) -> bool | None:
        """Return whether the image is the owner's; None if the owner never had it."""
        entry = await self._bus.last(OWNED, subjects.image_ownership(owner, sha256))
        mark = None if entry is None else read_mark(entry.data)
        if entry is None or mark is None:  # never written, or removed, here or with `nats kv del`
            self._known.pop((owner, sha256), None)
            return None if entry is None else False
        await self._note_use(owner, sha256, mark, entry.seq)
        return True

    async def _note_use(self, owner: str, sha256: str, mark: Mark, seq: int) -> None:
        # A mark from the future has a wrong time: the clock of its gateway was ahead, or this one is behind.
        if not -_CLOCK_SKEW_S < self._clock() - mark.used_at <= _RENEW_AFTER_S:
            with contextlib.suppress(WrongLastSequence):  # removed or noted meanwhile
                body = write_mark(mark.size_bytes, self._clock())
                seq = await self._bus.publish(subjects.image_ownership(owner, sha256), body, expect_last=seq)
        self._known[owner, sha256] = seq

    async def add_image(self, owner: str, sha256: str, size_bytes: int) -> None:
        """See Ownership."""
        await self._write(owner, sha256, size_bytes)

    async def add_first(self, owner: str, sha256: str, size_bytes: int) -> bool:
        """See Ownership."""
        if (owner, sha256) in self._known:
            return False
        try:
            await self._write(owner, sha256, size_bytes, expect_last=0)
        except WrongLastSequence:
            return False
        return True

    async def _write(self, owner: str, sha256: str, size_bytes: int, expect_last: int | None = None) -> None:
        subject, body = subjects.image_ownership(owner, sha256), write_mark(size_bytes, self._clock())
        self._known[owner, sha256] = await self._bus.publish(subject, body, expect_last=expect_last)

    async def remove_image(self, owner: str, sha256: str) -> bool:
        """See Ownership."""
        is_marked = await self._read(owner, sha256)
        was_owner = bool(is_marked) or (
            self.owns_unmarked and is_marked is None and not await self.owns_result(owner, sha256)
        )
        if was_owner:
            self._known.pop((owner, sha256), None)
            await self._bus.publish(subjects.image_ownership(owner, sha256), REMOVED)
        return was_owner


class SingleOwner(_ImageMarks):
    """Ownership of an open gateway: its one owner has everything in the broker, under any name."""

    owns_unmarked = True

    def marks(self, owner: str) -> tuple[str, ...]:
        """See Ownership."""
        del owner
        return subjects.marks_of(None)

    async def owned_job(self, owner: str, job_id: str, load: LoadJob) -> JobRecord | None:
        """See Ownership."""
        del owner
        return await load(job_id)

    def add_job(self, owner: str, job_id: str) -> None:
        """See Ownership."""

    def job_records(self, owner: str) -> str:
        """See Ownership."""
        del owner
        return subjects.ALL_RECORDS

    def debug_session(self, owner: str, name: str) -> str:
        """See Ownership."""
        del owner
        return subjects.debug_sessions_named(name)

    def debug_sessions(self, owner: str) -> str:
        """See Ownership."""
        del owner
        return subjects.ALL_SESSIONS

    def new_request_id(self, owner: str) -> str:
        """See Ownership."""
        del owner
        return uuid4().hex

    def owns_request(self, owner: str, request_id: str) -> bool:
        """See Ownership."""
        del owner, request_id
        return True


class StoredOwnership(_ImageMarks):
    """Ownership stored in the broker for all replicas."""

    def __init__(
        self, bus: Bus, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(bus, clock, monotonic)
        self._jobs: TTLCache[tuple[str, str], None] = TTLCache(_CACHE_ENTRIES, _CACHE_S, monotonic)

    def marks(self, owner: str) -> tuple[str, ...]:
        """See Ownership."""
        return subjects.marks_of(owner)

    async def owned_job(self, owner: str, job_id: str, load: LoadJob) -> JobRecord | None:
        """See Ownership."""
        record = await load(job_id) if await self.owns_job(owner, job_id) else None
        # Two owners can share a job id only if one was published by hand; then the record decides.
        return record if record is not None and record.user == owner else None

    async def owns_job(self, owner: str, job_id: str) -> bool:
        """Return whether the owner submitted this job. Raises BadMessage, BrokerUnavailable."""
        if (owner, job_id) in self._jobs:
            return True
        # A replayed job is only in the view, a new submission only in the log.
        found = await self._bus.last(JOBS, subjects.job_record(owner, job_id))
        if found is None or not found.data:
            found = await self._bus.first(JOB_LOG, subjects.submissions_by(owner, job_id))
        if found is not None:
            self._jobs[owner, job_id] = None
        return found is not None

    def add_job(self, owner: str, job_id: str) -> None:
        """See Ownership."""
        self._jobs[owner, job_id] = None

    def job_records(self, owner: str) -> str:
        """See Ownership."""
        return subjects.job_records_of(owner)

    def debug_session(self, owner: str, name: str) -> str:
        """See Ownership."""
        return subjects.debug_session(owner, name)

    def debug_sessions(self, owner: str) -> str:
        """See Ownership."""
        return subjects.debug_sessions_of(owner)

    def new_request_id(self, owner: str) -> str:
        """See Ownership. The id starts with a hash of the owner, so that no replica has to store it."""
        return _prefix(owner) + uuid4().hex

    def owns_request(self, owner: str, request_id: str) -> bool:
        """See Ownership."""
        return request_id.startswith(_prefix(owner))


def _prefix(owner: str) -> str:
    return hashlib.blake2s(owner.encode(), digest_size=8).hexdigest()
