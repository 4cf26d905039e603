"""Keeps room in JOB_LOG, which refuses new submissions when it is full so that it never loses an unsettled one.

Submissions of ended jobs leave the log early, the oldest first, only those of the owners with the largest volume.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING

from services.jobmanager.submissions import identify
from shared import deliveries, subjects
from shared.errors import BadMessage
from shared.topology import DISPATCHERS, JOB_EV, JOB_LOG, JOBS

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage
    from shared.subjects import SubmissionAddress

_LOOK_EVERY_S = 5.0  # a poll, because the broker does not announce how full a stream is
_PAUSE_S = 60.0  # after a search that removed nothing: it reads the whole log
_FULL, _ROOMY = 0.75, 0.65  # of the stream's limit: where the removal starts and where it ends
_OVERHEAD_BYTES = 200  # of a stored message beside subject and body: its headers and the broker's own fields
_AT_ONCE = 32
log = logging.getLogger(__name__)


class Retention:
    """Removes submissions from a log that is nearly full. It keeps those of all jobs that have not ended."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._settled_until: dict[str, int] = {}  # by class: the log sequence up to which every submission is settled

    async def run(self) -> None:
        """Look every few seconds until cancelled. Raises BrokerUnavailable."""
        while True:
            has_room = await self.make_room()
            await asyncio.sleep(_LOOK_EVERY_S if has_room else _PAUSE_S)

    async def make_room(self) -> bool:
        """Remove submissions if the log is nearly full; return False if it remains so. Raises BrokerUnavailable."""
        info = await self._bus.info(JOB_LOG, {})
        used, limit = int(info["state"]["bytes"]), int(info["config"]["max_bytes"])
        if limit <= 0 or used < limit * _FULL:
            return True
        for job_class, consumer in DISPATCHERS.items():
            self._settled_until[job_class] = await deliveries.settled_until(self._bus, JOB_LOG, consumer)
        excess = excess_by_owner(await self._volumes(), limit * _ROOMY)
        removed = await self._remove(excess)
        log.warning("jobs.log-trimmed", extra={"removed": removed, "owners": len(excess)})
        return removed > 0

    async def _volumes(self) -> Counter[str]:
        volumes: Counter[str] = Counter()
        async for page in self._bus.pages(JOB_LOG, ">"):
            for stored in page:
                volumes[_owner_of(stored)] += _size_of(stored)
        return volumes

    async def _remove(self, excess: dict[str, float]) -> int:
        """Remove the oldest submissions of ended jobs until each owner's excess is gone; return how many."""
        removed = 0
        async for page in self._bus.pages(JOB_LOG, ">"):
            if not any(left > 0 for left in excess.values()):
                break
            candidates = [stored for stored in page if excess.get(_owner_of(stored), 0) > 0]
            for start in range(0, len(candidates), _AT_ONCE):
                removed += await self._remove_ended(candidates[start : start + _AT_ONCE], excess)
        return removed

    async def _remove_ended(self, candidates: list[StoredMessage], excess: dict[str, float]) -> int:
        over = []
        for stored in candidates:
            if excess[_owner_of(stored)] > 0:
                over.append(stored)
                excess[_owner_of(stored)] -= _size_of(stored)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._remove_if_ended(stored), name=f"retain.{stored.seq}") for stored in over]
        kept = [stored for stored, task in zip(over, tasks, strict=True) if not task.result()]
        for stored in kept:
            excess[_owner_of(stored)] += _size_of(stored)
        return len(over) - len(kept)

    async def _remove_if_ended(self, stored: StoredMessage) -> bool:
        try:
            address = subjects.parse_submission(stored.subject)
        except BadMessage:
            return False
        if await self._bus.first(JOB_LOG, subjects.submissions_of(address.job_id), stored.seq) is not None:
            return False  # a later one with this id counts as a replay only while this one exists
        job_id, _, has_ended = await identify(self._bus, address, stored.seq)
        if not has_ended and not await self._is_forgotten(address, job_id, stored.seq):
            return False
        await self._bus.delete(JOB_LOG, stored.seq)
        return True

    async def _is_forgotten(self, address: SubmissionAddress, job_id: str, log_seq: int) -> bool:
        """Return whether a settled job has neither a record nor events: it ended so long ago that they are gone."""
        if log_seq > self._settled_until.get(address.job_class, 0):
            return False
        record = await self._bus.last(JOBS, subjects.job_record(address.user, job_id))
        return record is None and await self._bus.first(JOB_EV, subjects.events_of(job_id)) is None


def excess_by_owner(volumes: dict[str, int], goal: float) -> dict[str, float]:
    """Return each owner's bytes above an equal share; the shares of all owners together fit into `goal`.

    An owner with less than an equal share of the goal has no excess (max-min fairness).
    """
    left, level = goal, 0.0
    ordered = sorted(volumes.values())
    for place, volume in enumerate(ordered):
        level = left / (len(ordered) - place)
        if volume > level:
            break
        left -= volume
    else:
        return {}
    return {owner: volume - level for owner, volume in volumes.items() if volume > level}


def _owner_of(stored: StoredMessage) -> str:
    return stored.subject.rpartition(".")[0].rpartition(".")[2]


def _size_of(stored: StoredMessage) -> int:
    return len(stored.data) + len(stored.subject) + _OVERHEAD_BYTES
