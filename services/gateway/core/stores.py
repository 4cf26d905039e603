"""The owners' shares of the image buckets: evicts images for uploads and results, keeps inputs of jobs, deletes images.

An owner's images are counted from the marks in the bucket `owned`, so all replicas count the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cachetools import LRUCache, TTLCache

from services.gateway.core.fullness import measure
from services.gateway.limits.ledger import marks_ledger, order_for_eviction, read_waiting, waiting_ledger
from shared import subjects
from shared.derived import Derived
from shared.errors import ArtMancerError, Busy, Conflict, ImageNotFound, WrongLastSequence
from shared.job_events import load_record
from shared.marks import REMOVED, Mark, Reservation, is_result_marked, read_mark, remove_debug_images
from shared.messages import Cancelled, Done, Failed
from shared.topology import OWNED, SESSIONS, bucket_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from services.gateway.access.ownership import Ownership
    from services.gateway.limits.ledger import Kept, Ledger
    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.messages import DebugSession, JobEvent, JobSubmit

log = logging.getLogger(__name__)
_USABLE, _FULL = 0.75, 0.95  # of a bucket: below the alert at 0.8, and with room for jobs by hand
_FILL_VALID_S, _LEDGER_VALID_S = 2.0, 300.0
_COUNT_VALID_S = 2.0  # while half of a share is free; a request takes longer with each read
_SWEEP_EVERY_S = 10.0
_SIZES = 4096
_LEDGERS, _OURS = 256, 20_000
_RELEASED = {"Nats-TTL": "10m"}  # longer than a ledger is valid; each new one reads all of them
_SHARE_FULL = "Your share of the image store is full, please wait until some of your edits have finished."
_STORE_FULL = "The image store is full, please try again later."


class _Entry(NamedTuple):
    """The entry of a waiting job that this gateway has submitted; the sequence is 0 until it is stored."""

    subject: str
    seq: int = 0


@dataclass(slots=True)
class _Need:
    """The bytes that are over a limit: those of one owner, and those of the whole bucket."""

    over_share: float
    over_bucket: float

    @property
    def is_met(self) -> bool:
        """Return whether enough is free."""
        return self.over_share <= 0 and self.over_bucket <= 0

    def is_far(self, capacity: int, share: float) -> bool:
        """Return whether half of the share is free, and a tenth of the bucket."""
        return self.over_share < -share / 2 and self.over_bucket < -capacity / 10


class Stores:
    """Makes room, keeps inputs, and deletes. One for each gateway."""

    def __init__(
        self,
        bus: Bus,
        images: NatsImageStore,
        ownership: Ownership,
        share: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`share` is the part of each bucket that one owner may fill, 0 to 1."""
        self._bus = bus
        self._images = images
        self._derived = Derived(bus, images)
        self._ownership = ownership
        self._share = share
        self._ledgers: TTLCache[tuple[str, ...], Ledger[Mark]] = TTLCache(_LEDGERS, _LEDGER_VALID_S, clock)
        self._waiting: TTLCache[str, Ledger[Reservation]] = TTLCache(1, _LEDGER_VALID_S, clock)
        self._fill: TTLCache[str, tuple[int, int]] = TTLCache(8, _FILL_VALID_S, clock)
        self._ours: LRUCache[str, _Entry] = LRUCache(_OURS)  # the jobs that this gateway has submitted
        self._sizes: LRUCache[str, int] = LRUCache(_SIZES)  # the largest result of an edit of an image, by its hash
        self._ended: asyncio.Queue[str] = asyncio.Queue()

    async def make_room(self, owner: str, bucket: Kept, size_bytes: int, kept: Collection[str] = ()) -> None:
        """Delete the owner's least recently used images, but none of the hashes `kept`, until one of this size fits.

        Raises Busy, BrokerUnavailable.
        """
        if await self.has_ample_room(owner, bucket, size_bytes):
            return
        marks = self._marks_of(owner)
        waiting = self._all_waiting()
        async with marks.lock:  # two evictions at once would count the same bytes twice
            await asyncio.gather(waiting.refresh(self._bus), marks.refresh(self._bus))
            need = await self._compute_need(marks, bucket, size_bytes, waiting)
            if not need.is_met and bucket == "results":
                await self._sweep(marks, waiting)
                need = await self._compute_need(marks, bucket, size_bytes, waiting)
            if not need.is_met:
                named = {sha256 for job in waiting.entries.values() for sha256 in job.inputs}
                await self._evict(marks, bucket, need, named.union(kept))
        if need.over_share > 0:
            raise Busy(_SHARE_FULL)
        if need.over_bucket > 0:
            raise Busy(_STORE_FULL)
        marks.admitted[bucket] += size_bytes

    async def has_ample_room(self, owner: str, bucket: Kept, size_bytes: int) -> bool:
        """Return whether half of the owner's share is free by a young count; if so, count an image of this size."""
        marks, waiting = self._marks_of(owner), self._all_waiting()
        if min(marks.read_at, waiting.read_at) <= time.monotonic() - _COUNT_VALID_S:
            return False
        need = await self._compute_need(marks, bucket, size_bytes, waiting)
        if not need.is_far(*await self._limits(bucket)):
            return False
        marks.admitted[bucket] += size_bytes
        return True

    async def _read_waiting(self) -> Ledger[Reservation]:
        waiting = self._all_waiting()
        await waiting.refresh(self._bus)
        return waiting

    def _all_waiting(self) -> Ledger[Reservation]:
        return self._waiting.setdefault(subjects.ALL_WAITING, waiting_ledger())

    def _marks_of(self, owner: str) -> Ledger[Mark]:
        patterns = self._ownership.marks(owner)
        return self._ledgers.get(patterns) or self._ledgers.setdefault(patterns, marks_ledger(patterns))

    async def _compute_need(
        self, marks: Ledger[Mark], bucket: Kept, size_bytes: int, waiting: Ledger[Reservation]
    ) -> _Need:
        capacity, filled = await self._measure(bucket)
        used = marks.totals[bucket]
        if bucket == "inputs":  # the room of results is counted by the waiting jobs
            used += marks.admitted[bucket]
            filled += marks.admitted[bucket]
        else:
            reserved = waiting.totals.total()
            filled += reserved
            used += reserved if marks.owner is None else waiting.totals[marks.owner]
        _, share = await self._limits(bucket)
        share = max(share, size_bytes)  # a share smaller than one image would be none
        return _Need(used + size_bytes - share, filled + size_bytes - _FULL * capacity)

    async def _limits(self, bucket: Kept) -> tuple[int, float]:
        """Return the size of a bucket, and that of an owner's share."""
        capacity, _ = await self._measure(bucket)
        return capacity, self._share * _USABLE * capacity

    async def _measure(self, bucket: Kept) -> tuple[int, int]:
        if bucket not in self._fill:
            self._fill[bucket] = await measure(self._bus, bucket_stream(bucket))
        return self._fill[bucket]

    async def _evict(self, marks: Ledger[Mark], bucket: Kept, need: _Need, kept: Collection[str]) -> None:
        """Delete images that are not in `kept`, and subtract their bytes from the need."""
        spare = order_for_eviction(marks, bucket, kept)
        if sum(mark.size_bytes for _, mark, _ in spare) < max(need.over_share, need.over_bucket):
            return  # it would not help
        freed = 0
        for subject, mark, sha256 in spare:
            if need.is_met:
                break
            await self._bus.publish(subject, REMOVED)
            need.over_share -= mark.size_bytes
            if await self._remove(bucket, sha256):
                need.over_bucket -= mark.size_bytes
            freed += mark.size_bytes
        self._fill.pop(bucket, None)
        log.info("stores.evicted", extra={"bucket": bucket, "freed_bytes": freed})

    async def _remove(self, bucket: Kept, sha256: str) -> bool:
        async def is_needed() -> bool:
            if bucket == "results":
                is_marked = await is_result_marked(self._bus, sha256)
            else:
                owners = await self._bus.history(OWNED, subjects.image_owners(sha256))
                is_marked = any(read_mark(stored.data) for stored in owners)
            return is_marked or await self._leave_to_job(sha256)

        if removed := await self._images.remove(bucket, sha256, is_needed):
            await self._derived.remove(sha256)
        return removed

    async def _leave_to_job(self, sha256: str) -> bool:
        """Leave an image without marks to a waiting job that names it; return whether there is one.

        Its entry is rewritten, so that the gateway that releases the job looks for the marks of its inputs.
        """
        waiting = await self._read_waiting()
        for subject in [subject for subject, job in waiting.entries.items() if sha256 in job.inputs]:
            while (stored := await self._bus.last(OWNED, subject)) and stored.data:
                with contextlib.suppress(WrongLastSequence):  # released, or rewritten by another deletion
                    await self._bus.publish(subject, stored.data, expect_last=stored.seq)
                    return True
        return False

    async def remove_image(self, owner: str, sha256: str) -> None:
        """Remove the owner's mark of an upload, and the bytes with the last mark. Raises ImageNotFound, Conflict.

        An unsettled job keeps the bytes of its inputs until it ends.
        """
        if not await self._ownership.remove_image(owner, sha256):
            if await self._ownership.owns_result(owner, sha256):
                raise Conflict("This image is the result of a job; delete the job with its data instead.")
            raise ImageNotFound
        await self._drop("inputs", sha256)

    async def remove_results(self, owner: str, job_id: str, named: str | None) -> None:
        """Remove the marks of a job's results, and the bytes with the last mark. Raises BrokerUnavailable.

        `named` is the result in the job's terminal event: a worker of release 0.1 writes no marks.
        """
        hashes = set() if named is None else {named}
        for stored in await self._bus.history(OWNED, subjects.result_marks_of_job(owner, job_id)):
            if stored.data != REMOVED:
                await self._bus.publish(stored.subject, REMOVED)
            hashes.add(stored.subject.rpartition(".")[2])
        for sha256 in hashes:
            await self._drop("results", sha256)
            if not await is_result_marked(self._bus, sha256):  # it may have been evicted and assembled
                await self._derived.remove(sha256)

    async def remove_sessions(self, sessions: list[DebugSession]) -> None:
        """Delete debug sessions, and their images unless another session has them. Raises BrokerUnavailable."""
        for session in sessions:
            await self._bus.purge(SESSIONS, subjects.debug_session(session.user, session.name))
        await remove_debug_images(self._bus, self._images, sessions)

    async def make_room_for_result(self, owner: str, submission: JobSubmit) -> None:
        """Make room for the result of a job. Raises ImageNotFound, Busy, BrokerUnavailable."""
        inputs = submission.image_hashes().values()  # do not evict a result that this job edits
        await self.make_room(owner, "results", await self._result_bytes(submission), inputs)

    async def _result_bytes(self, submission: JobSubmit) -> int:
        if submission.image not in self._sizes:
            photo = await self._images.head("inputs", submission.image)
            if photo is None:
                raise ImageNotFound
            self._sizes[submission.image] = Reservation.largest_result_bytes(photo.width * photo.height)
        return self._sizes[submission.image]

    async def keep_inputs(self, owner: str, job_id: str, submission: JobSubmit) -> bool:
        """Keep a job's inputs, and room for its result, until it ends. Return whether the owner still has the inputs.

        The check follows the keeping. So a deletion at the same time either finds this job and leaves the bytes, or it
        has removed the mark before the check. Raises BrokerUnavailable.
        """
        inputs = sorted(set(submission.image_hashes().values()))
        job = Reservation(inputs=inputs, result_bytes=await self._result_bytes(submission))
        subject = subjects.waiting_job(owner, job_id)
        self._ours[job_id] = _Entry(subject)
        self._all_waiting().set(subject, job)
        seq, owned = await self._store_waiting(owner, subject, job)
        self._ours[job_id] = _Entry(subject, seq)
        owns = [self._ownership.still_has(owner, sha256) for sha256 in inputs if sha256 != owned]
        return await owns[0] if len(owns) == 1 else all(await asyncio.gather(*owns))  # a task costs as much as a read

    async def _store_waiting(self, owner: str, subject: str, job: Reservation) -> tuple[int, str | None]:
        """Store the entry of a waiting job; return its sequence and the input that the owner certainly had then.

        The broker stores it only if the mark of that input has not changed since it was read, which saves a read. A
        cluster refuses a second entry with this condition while the first one is in progress, so a cluster gets no
        condition.
        """
        seqs = {sha256: self._ownership.cached_seq(owner, sha256) for sha256 in job.inputs}
        seen = next((sha256 for sha256, seq in seqs.items() if seq), None)
        if seen is not None and not self._bus.is_clustered:
            mark = subjects.image_ownership(owner, seen)
            with contextlib.suppress(WrongLastSequence):
                return await self._bus.publish(subject, job, expect_last=seqs[seen], expect_on=mark), seen
        return await self._bus.publish(subject, job), None

    async def release_job(self, owner: str, job_id: str) -> None:
        """Release a job that was not stored. Raises BrokerUnavailable."""
        await self.release(subjects.waiting_job(owner, job_id))

    async def _release_ours(self, entry: _Entry) -> None:
        """Release a job of this gateway with one write, or with `release` if a deletion rewrote its entry."""
        self._all_waiting().set(entry.subject, None)
        try:
            await self._bus.publish(entry.subject, REMOVED, expect_last=entry.seq, headers=_RELEASED)
        except WrongLastSequence:
            await self.release(entry.subject)

    async def release(self, subject: str) -> None:
        """Stop keeping the inputs of a job, and delete those without a mark. Raises BrokerUnavailable."""
        job = read_waiting(await self._bus.last(OWNED, subject))
        self._all_waiting().set(subject, None)
        await self._bus.publish(subject, REMOVED, headers=_RELEASED)
        for sha256 in job.inputs if job else ():
            await self._remove("inputs", sha256)
            await self._remove("results", sha256)

    async def _sweep(self, marks: Ledger[Mark], waiting: Ledger[Reservation]) -> None:
        """Release the ended jobs of one owner, now and then: each job costs a read."""
        if time.monotonic() - marks.swept_at > _SWEEP_EVERY_S:
            marks.swept_at = time.monotonic()
            theirs = [key for key in waiting.entries if marks.owner in {None, subjects.owner_of_entry(key)}]
            await self._release_ended(waiting, theirs)

    async def _drop(self, bucket: Kept, sha256: str) -> None:
        """Release the ended jobs that still keep an image, and delete the image unless it is needed."""
        waiting = await self._read_waiting()
        await self._release_ended(waiting, [key for key, job in waiting.entries.items() if sha256 in job.inputs])
        await self._remove(bucket, sha256)

    async def _release_ended(self, waiting: Ledger[Reservation], keys: list[str]) -> None:
        """Release the ended jobs whose end no gateway received, for example during a restart."""
        for subject in keys:
            record = await load_record(self._bus, subject.rpartition(".")[2])
            if record is not None and record.ended is not None:
                await self.release(subject)
        await waiting.refresh(self._bus)

    def note(self, event: JobEvent) -> None:
        """Release a job after its end, if this gateway submitted it or if no gateway did."""
        if isinstance(event, Done | Failed | Cancelled):
            self._ended.put_nowait(event.job_id)

    async def run(self) -> None:
        """Release the jobs that end, until cancelled. A job whose release fails is found when room is short."""
        while True:
            job_id = await self._ended.get()
            with contextlib.suppress(ArtMancerError):
                if entry := self._ours.pop(job_id, None):
                    await self._release_ours(entry)
                elif subject := await self._find_by_hand(job_id):
                    await self.release(subject)

    async def _find_by_hand(self, job_id: str) -> str | None:
        """Return the subject of a job that no gateway has submitted: the job manager may not delete its images."""
        stored = await self._bus.first(OWNED, subjects.waiting_job(None, job_id))
        job = read_waiting(stored)
        return stored.subject if stored and job and job.by_hand else None
