"""The entries of the bucket `owned`, counted by owner and bucket: images of owners, and reservations of jobs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from shared import subjects
from shared.marks import NEVER, Mark, Reservation, read_mark
from shared.reading import read_or_skip
from shared.topology import OWNED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from shared.bus import Bus, StoredMessage

    Kept = Literal["inputs", "results"]

T = TypeVar("T")


@dataclass(slots=True)
class Ledger(Generic[T]):
    """The entries on subject patterns, by subject, each up to a sequence of the bucket `owned`."""

    patterns: tuple[str, ...]
    read: Callable[[StoredMessage], T | None]
    measure: Callable[[str, T], tuple[str, int]]
    """Return what an entry counts for, and its bytes."""
    seqs: Counter[str] = field(default_factory=Counter)  # by pattern
    read_at: float = float("-inf")
    swept_at: float = float("-inf")
    entries: dict[str, T] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    admitted: Counter[Kept] = field(default_factory=Counter)  # bytes for which room was made since the last time

    @property
    def owner(self) -> str | None:
        """Return the owner of these entries, None for a ledger of the entries of all owners."""
        owner = subjects.owner_of_entry(self.patterns[0])
        return None if owner == "*" else owner

    async def refresh(self, bus: Bus) -> None:
        """Read the marks written since the last time. Raises BrokerUnavailable."""
        started_at = time.monotonic()
        await asyncio.gather(*(self._read(bus, pattern) for pattern in self.patterns))
        self.read_at = started_at
        self.admitted.clear()

    async def _read(self, bus: Bus, pattern: str) -> None:
        for stored in await bus.history(OWNED, pattern, after=self.seqs[pattern]):
            self.seqs[pattern] = max(self.seqs[pattern], stored.seq)
            self.set(stored.subject, self.read(stored))

    def set(self, subject: str, entry: T | None) -> None:
        """Replace an entry, or remove it."""
        before = self.entries.pop(subject, None)
        for one, sign in ((before, -1), (entry, 1)):
            if one is not None:
                name, size = self.measure(subject, one)
                self.totals[name] += sign * size
        if entry is not None:
            self.entries[subject] = entry


def marks_ledger(patterns: tuple[str, ...]) -> Ledger[Mark]:
    """Return a ledger of the marks on some patterns, counted by bucket."""

    def read(stored: StoredMessage) -> Mark | None:
        return read_mark(stored.data)

    def measure(subject: str, mark: Mark) -> tuple[str, int]:
        return subjects.bucket_of_mark(subject), mark.size_bytes

    return Ledger(patterns, read, measure)


def order_for_eviction(marks: Ledger[Mark], bucket: Kept, kept: Collection[str]) -> list[tuple[str, Mark, str]]:
    """Return the marks of the images in a bucket that may be evicted, in that order: subject, mark and hash.

    First come images that are stored twice, as a result and as an input: so a chain of edits evicts no photo. Then come
    results that were edited further and have a patch: they can be assembled. The others follow by last use.
    """
    twice = {sha256 for *_, sha256 in _in_bucket(marks, "results" if bucket == "inputs" else "inputs")}
    here = _in_bucket(marks, bucket)
    of_job = Counter(subject.rpartition(".")[0] for subject, *_ in here)

    def rank(each: tuple[str, Mark, str]) -> tuple[bool, bool, int]:
        subject, mark, sha256 = each
        return sha256 not in twice, mark.used_at != NEVER or of_job[subject.rpartition(".")[0]] == 1, mark.used_at

    return sorted((each for each in here if each[1].size_bytes and each[2] not in kept), key=rank)


def _in_bucket(marks: Ledger[Mark], bucket: Kept) -> list[tuple[str, Mark, str]]:
    """Return the marks of the images in a bucket: subject, mark and hash."""
    entries = marks.entries.items()
    return [(key, mark, key.rpartition(".")[2]) for key, mark in entries if subjects.bucket_of_mark(key) == bucket]


def waiting_ledger() -> Ledger[Reservation]:
    """Return a ledger of all waiting jobs, counted by owner."""

    def measure(subject: str, job: Reservation) -> tuple[str, int]:
        return subjects.owner_of_entry(subject), job.result_bytes

    return Ledger((subjects.ALL_WAITING,), read_waiting, measure)


def read_waiting(stored: StoredMessage | None) -> Reservation | None:
    """Return the waiting job in an entry; None for one that was released."""
    return read_or_skip(Reservation, stored)
