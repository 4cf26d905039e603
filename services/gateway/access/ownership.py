"""Decides which images, jobs, debug sessions and requests belong to an owner.

Images are named by their content, so a name alone must open nothing. The broker keeps an entry for each owner and
image under the owner's subject. An image or job of another owner therefore costs the same reads as one that does not
exist, and neither the response nor its time shows the difference.
"""

from __future__ import annotations

import hashlib
import re
import time
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from cachetools import TTLCache

from shared import subjects
from shared.topology import BUCKET_LIFE_S, JOB_LOG, JOBS, OWNED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.bus import Bus
    from shared.messages import JobRecord

    LoadJob = Callable[[str], Awaitable[JobRecord | None]]

_RENEW_AFTER_S = BUCKET_LIFE_S["inputs"] / 2  # so that the entry, like the image, outlives the jobs that use it
_CLOCK_SKEW_S = 60.0
_CACHE_S = 60.0
_CACHE_ENTRIES = 8192
_SECONDS = re.compile(rb"[0-9]{1,20}")


class Ownership(Protocol):
    """The ownership questions of a gateway. All async methods raise BrokerUnavailable."""

    async def owns_image(self, owner: str, sha256: str) -> bool:
        """Return whether the owner uploaded this image or received it from a service; extend the entry's life."""

    async def add_image(self, owner: str, sha256: str) -> None:
        """Make the owner one of the image's owners."""

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


class SingleOwner:
    """Ownership of an open gateway: its one owner has everything in the broker, under any name."""

    async def owns_image(self, owner: str, sha256: str) -> bool:
        """See Ownership."""
        del owner, sha256
        return True

    async def add_image(self, owner: str, sha256: str) -> None:
        """See Ownership."""

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


class StoredOwnership:
    """Ownership stored in the broker for all replicas. A found entry is cached for a minute, an absent one never."""

    def __init__(
        self, bus: Bus, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` gives seconds since the epoch; `monotonic` gives the age of what is cached."""
        self._bus = bus
        self._clock = clock
        self._known: TTLCache[tuple[str, str], bool] = TTLCache(_CACHE_ENTRIES, _CACHE_S, monotonic)

    async def owns_image(self, owner: str, sha256: str) -> bool:
        """See Ownership."""
        if (owner, sha256) in self._known:
            return True
        entry = await self._bus.last(OWNED, subjects.image_ownership(owner, sha256))
        if entry is None or not _SECONDS.fullmatch(entry.data):  # `nats kv del` leaves an empty entry
            return False
        # An entry from the future has a wrong time: the clock of its gateway was ahead, or this one is behind.
        if not -_CLOCK_SKEW_S < self._clock() - int(entry.data) <= _RENEW_AFTER_S:
            await self.add_image(owner, sha256)
        self._known[owner, sha256] = True
        return True

    async def add_image(self, owner: str, sha256: str) -> None:
        """See Ownership."""
        await self._bus.publish(subjects.image_ownership(owner, sha256), str(int(self._clock())).encode())
        self._known[owner, sha256] = True

    async def owned_job(self, owner: str, job_id: str, load: LoadJob) -> JobRecord | None:
        """See Ownership."""
        record = await load(job_id) if await self.owns_job(owner, job_id) else None
        # Two owners can share a job id only if one was published by hand; then the record decides.
        return record if record is not None and record.user == owner else None

    async def owns_job(self, owner: str, job_id: str) -> bool:
        """Return whether the owner submitted this job. Raises BadMessage, BrokerUnavailable."""
        if (owner, job_id) in self._known:
            return True
        # A replayed job is only in the view, a new submission only in the log.
        found = await self._bus.last(JOBS, subjects.job_record(owner, job_id))
        if found is None or not found.data:
            found = await self._bus.first(JOB_LOG, subjects.submissions_by(owner, job_id))
        if found is not None:
            self._known[owner, job_id] = True
        return found is not None

    def add_job(self, owner: str, job_id: str) -> None:
        """See Ownership."""
        self._known[owner, job_id] = True

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
