"""One attempt at a delivery: read the endpoint, call it, then delete the delivery or store when it is due again.

The endpoint is read again after each change of it, and after a few seconds, so a deleted one is not called again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.jobmanager import metrics
from services.jobmanager.webhooks import payload
from services.jobmanager.webhooks.look_up import OWNER
from shared import subjects, webhook_subjects
from shared.errors import WrongLastSequence
from shared.messages import Cancelled, JobRecord
from shared.reading import read_or_skip
from shared.tombstones import is_deleted
from shared.topology import JOBS, WEBHOOK_Q
from shared.webhook_messages import WebhookAttempt, WebhookDelivery
from shared.webhooks import webhook_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from services.jobmanager.webhooks.calls import Outcome
    from services.jobmanager.webhooks.directory import Directory, Target
    from services.jobmanager.webhooks.retry_rules import RetryRules
    from services.jobmanager.webhooks.schedule import Waiting
    from shared.bus import Bus
    from shared.messages import Terminal
    from shared.webhook_subjects import DeliveryAddress

    Post = Callable[[str, dict[str, str], bytes], Awaitable[Outcome]]
    """Posts a body with headers to a URL; raises no error."""

_NOT_ENDED_S = 1.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Result:
    """The outcome of an attempt, and its place in the delivery's life."""

    waiting: Waiting
    target: Target
    kind: str
    outcome: Outcome
    at: float

    @property
    def is_test(self) -> bool:
        return self.waiting.address.kind == "test"


class Attempts:
    """Makes attempts. All methods raise BrokerUnavailable."""

    def __init__(
        self, bus: Bus, directory: Directory, post: Post, ends: Mapping[str, Terminal], rules: RetryRules, name: str
    ) -> None:
        """Take `ends`, some ends by job; the others are read from the view. `name` is that of this sender."""
        self.name = name
        self._bus = bus
        self._post = post
        self._directory = directory
        self._ends = ends
        self._rules = rules

    async def call(self, waiting: Waiting) -> _Result | None:
        """Make the call of a delivery; None if there is nothing to send, and the delivery is settled."""
        if not waiting.is_own and await self._bus.get(WEBHOOK_Q, waiting.seq) is None:
            return None  # another sender has settled it
        target = await self._find(waiting)
        if target is None:
            await self._bus.delete(WEBHOOK_Q, waiting.seq)
            return None
        is_test, now = waiting.address.kind == "test", time.time()
        if is_test:
            kind, body = payload.TEST, payload.check_body(target.endpoint, now)
        else:
            end = await self._end_of(waiting)
            if end is None:
                return None
            kind, body = payload.event_of(end), payload.end_body(end, target.endpoint, now)
        message_id = webhook_id(waiting.address.endpoint, waiting.address.kind, waiting.address.name)
        headers = payload.headers(target.endpoint, message_id, now, body)
        OWNER.set(waiting.address.owner)
        outcome = await self._post(target.endpoint.url, headers, body)
        return _Result(waiting, target, kind, outcome, now)

    async def settle(self, result: _Result) -> None:
        """Delete the delivery or store its next attempt; note and log the outcome. May be repeated."""
        waiting = result.waiting
        delay_s = None if result.is_test else self._rules.delay_s(result.outcome, waiting.attempts)
        if delay_s is None:
            await self._bus.delete(WEBHOOK_Q, waiting.seq)
        else:
            await self._store(waiting, delay_s)
        await self._note(result)
        await self._log(result, delay_s)

    async def drop(self, waiting: Waiting) -> None:
        """Delete a delivery that exceeds the share of its owner; the log of the endpoint names it."""
        await self._bus.delete(WEBHOOK_Q, waiting.seq)
        end = None if waiting.address.kind == "test" else await self._end_of(waiting)
        await log_dropped(self._bus, waiting.address, payload.TEST if end is None else payload.event_of(end))

    async def _find(self, waiting: Waiting) -> Target | None:
        """Return the endpoint with its state; None for one that is gone, or disabled unless this is a test."""
        address = waiting.address
        target = (await self._directory.endpoints_of(address.owner)).get(address.endpoint)
        if target is None or (target.state.disabled_at is not None and address.kind != "test"):
            return None
        return target

    async def _end_of(self, waiting: Waiting) -> Terminal | None:
        """Return the end of the job; None for an unknown job, or one that has not ended in the view yet.

        A deleted job counts as unknown, but its cancellation is sent, because it has no data of the job.
        """
        address = waiting.address
        end = self._ends.get(address.name) or await self._read_end(waiting)
        if end is None or isinstance(end, Cancelled) or not await is_deleted(self._bus, address.owner, address.name):
            return end
        await self._bus.delete(WEBHOOK_Q, waiting.seq)
        return None

    async def _read_end(self, waiting: Waiting) -> Terminal | None:
        """Return the end of the job from the view. Without one, settle the delivery and return None."""
        address = waiting.address
        record = read_or_skip(JobRecord, await self._bus.last(JOBS, subjects.job_record(address.owner, address.name)))
        if record is not None and record.ended is not None:
            return record.ended
        if record is None or waiting.attempts >= len(self._rules.delays_s):
            await self._bus.delete(WEBHOOK_Q, waiting.seq)
        else:
            await self._store(waiting, _NOT_ENDED_S)
        return None

    async def _store(self, waiting: Waiting, delay_s: float) -> None:
        """Store when a delivery is due again, unless it was replaced or deleted meanwhile."""
        again = WebhookDelivery(attempts=waiting.attempts + 1, due_at=time.time() + delay_s, by=self.name)
        with contextlib.suppress(WrongLastSequence):  # or our own first try is stored and its ack was lost
            await self._bus.publish(waiting.subject, again, expect_last=waiting.seq)

    async def _note(self, result: _Result) -> None:
        """Store the state of the endpoint, if it changes."""
        state, outcome = result.target.state, result.outcome
        if result.is_test and not outcome.is_success:
            return
        changed = self._rules.state_after(outcome, state, time.time())
        if changed != state:
            address = result.waiting.address
            if changed.disabled_at is not None:
                log.warning("webhook.disabled", extra={"endpoint": address.endpoint, "owner": address.owner})
            with contextlib.suppress(WrongLastSequence):  # the endpoint was deleted: its state must not stay
                await self._bus.publish(
                    webhook_subjects.state(address.owner, address.endpoint),
                    changed,
                    expect_last=result.target.seq,
                    expect_on=webhook_subjects.endpoint(address.owner, address.endpoint),
                )

    async def _log(self, result: _Result, delay_s: float | None) -> None:
        outcome, address = result.outcome, result.waiting.address
        kind = "delivered" if outcome.is_success else "failed" if delay_s is None else "retry"
        if address.endpoint not in await self._directory.endpoints_of(address.owner):
            return  # deleted during the call, with its log
        metrics.WEBHOOKS.labels(kind).inc()
        attempt = WebhookAttempt(
            webhook_id=webhook_id(address.endpoint, address.kind, address.name),
            type=result.kind,
            job_id=None if result.is_test else address.name,
            attempt=result.waiting.attempts + 1,
            at=result.at,
            duration_ms=outcome.duration_ms,
            status=outcome.status,
            outcome=kind,
            error=outcome.error,
            next_at=None if delay_s is None else time.time() + delay_s,
        )
        # Without confirmation: a log line that the broker loses does not justify another call.
        body = attempt.model_dump_json(exclude_none=True).encode()
        await self._bus.emit(webhook_subjects.attempts_at(address.owner, address.endpoint), body)


async def log_dropped(bus: Bus, address: DeliveryAddress, kind: str) -> None:
    """Record in the log of an endpoint that a delivery is never sent. Raises BrokerUnavailable."""
    metrics.WEBHOOKS.labels("dropped").inc()
    log.warning("webhook.dropped", extra={"endpoint": address.endpoint, "owner": address.owner, "id": address.name})
    dropped = WebhookAttempt(
        webhook_id=webhook_id(address.endpoint, address.kind, address.name),
        type=kind,
        job_id=None if address.kind == "test" else address.name,
        attempt=0,
        outcome="dropped",
        error="Too many deliveries wait; send it again later.",
    )
    await bus.publish(webhook_subjects.attempts_at(address.owner, address.endpoint), dropped)
