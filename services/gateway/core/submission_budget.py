"""The budget of each owner for submissions, in number and in bytes. A cancelled job is not paid back.

Without a budget, an owner who submits and cancels in turn stays below the queue limit and fills the log of all owners.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.access.token_bucket import TokenBucket
from shared.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Rate:
    """An amount that may be spent together after a pause, and the amount that each second adds."""

    per_s: float
    burst: int


class SubmissionBudget:
    """The budgets of this gateway alone: replicas share no counts. Not for an open gateway, which has one owner."""

    def __init__(self, jobs: Rate, size: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        """`size` is in bytes of the stored submissions."""
        self._rates = jobs, size
        self._clock = clock
        self._buckets: dict[str, tuple[TokenBucket, ...]] = {}  # one for each owner of a key, so there are few

    def spend(self, owner: str, size_bytes: int) -> None:
        """Count a submission. Raises Busy if the owner has spent the budget."""
        now = self._clock()
        buckets = self._buckets.get(owner)
        if buckets is None:
            buckets = tuple(TokenBucket(rate.per_s, rate.burst, now) for rate in self._rates)
            self._buckets[owner] = buckets
        amounts = (1, size_bytes)
        wait_s = max(bucket.wait_s(now, amount) for bucket, amount in zip(buckets, amounts, strict=True))
        if wait_s:
            raise Busy(f"You have submitted too much in a short time; please try again in {math.ceil(wait_s)} s.")
        for bucket, amount in zip(buckets, amounts, strict=True):
            bucket.take(now, amount)
