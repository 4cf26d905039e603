"""Whose a picture or a job is. Pictures are named by their content, so a name alone must open nothing.

The broker keeps an entry for each owner and picture, under the owner: who asks for what is not theirs is answered
after the same reads as who asks for what does not exist, and neither the answer nor its time tells the two apart.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from cachetools import TTLCache

from shared import subjects
from shared.topology import BUCKET_LIFE_S, JOB_LOG, JOBS, OWNED

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bus import Bus

_RENEWED_S = BUCKET_LIFE_S["inputs"] / 2  # of an entry: as the picture itself, it outlives a job that names it
_BELIEVED_S = 60.0
_KEPT = 8192


class Ownership(Protocol):
    """What belongs to whom. All questions raise BrokerUnavailable, those about jobs BadMessage for what is no id."""

    async def owns_image(self, owner: str, sha256: str) -> bool:
        """Whether the owner has sent this picture, or got it from a service; keeps it theirs for half a week more."""

    async def add_image(self, owner: str, sha256: str) -> None:
        """Make the picture theirs, beside all others who have the same."""

    async def owns_job(self, owner: str, job_id: str) -> bool:
        """Whether the owner has submitted this job."""

    def add_job(self, owner: str, job_id: str) -> None:
        """Remember what has just been submitted; the broker's log knows it already."""

    def new_request_id(self, owner: str) -> str:
        """Return an id for a question to a service."""

    def owns_request(self, owner: str, request_id: str) -> bool:
        """Whether the question is theirs."""


class SingleOwner:
    """Without access control there is one owner, who has all that exists."""

    async def owns_image(self, owner: str, sha256: str) -> bool:
        """See Ownership."""
        del owner, sha256
        return True

    async def add_image(self, owner: str, sha256: str) -> None:
        """See Ownership."""

    async def owns_job(self, owner: str, job_id: str) -> bool:
        """See Ownership."""
        del owner, job_id
        return True

    def add_job(self, owner: str, job_id: str) -> None:
        """See Ownership."""

    def new_request_id(self, owner: str) -> str:
        """See Ownership."""
        del owner
        return uuid4().hex

    def owns_request(self, owner: str, request_id: str) -> bool:
        """See Ownership."""
        del owner, request_id
        return True


class StoredOwnership:
    """Ownership in the broker, so that every replica knows it; what was found is believed for a minute."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since the epoch."""
        self._bus = bus
        self._clock = clock
        self._believed: TTLCache[tuple[str, str], bool] = TTLCache(_KEPT, _BELIEVED_S, clock)

    async def owns_image(self, owner: str, sha256: str) -> bool:
        """See Ownership."""
        if (owner, sha256) in self._believed:
            return True
        entry = await self._bus.last(OWNED, subjects.image_ownership(owner, sha256))
        if entry is None or not entry.data.isdigit():  # `nats kv del` leaves an empty one
            return False
        if self._clock() - int(entry.data) > _RENEWED_S:
            await self.add_image(owner, sha256)
        self._believed[owner, sha256] = True
        return True

    async def add_image(self, owner: str, sha256: str) -> None:
        """See Ownership."""
        await self._bus.publish(subjects.image_ownership(owner, sha256), str(int(self._clock())).encode())
        self._believed[owner, sha256] = True

    async def owns_job(self, owner: str, job_id: str) -> bool:
        """See Ownership."""
        if (owner, job_id) in self._believed:
            return True
        # A replay is in the view only, what has just been submitted only in the log.
        found = await self._bus.last(JOBS, subjects.job_record(owner, job_id))
        if found is None or not found.data:
            found = await self._bus.first(JOB_LOG, subjects.submissions_by(owner, job_id))
        if found is not None:
            self._believed[owner, job_id] = True
        return found is not None

    def add_job(self, owner: str, job_id: str) -> None:
        """See Ownership."""
        self._believed[owner, job_id] = True

    def new_request_id(self, owner: str) -> str:
        """See Ownership. The id begins with the owner's mark, so that no replica has to remember it."""
        return _mark(owner) + uuid4().hex

    def owns_request(self, owner: str, request_id: str) -> bool:
        """See Ownership."""
        return request_id.startswith(_mark(owner))


def _mark(owner: str) -> str:
    return hashlib.blake2s(owner.encode(), digest_size=8).hexdigest()
