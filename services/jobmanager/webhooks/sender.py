"""Sends webhooks: a part of the job manager with a connection of its own, which may read no image and no submission.

The broker keeps each delivery until it has succeeded, with the time of its next attempt. Decision 0032 has the reasons.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from services.jobmanager import metrics
from services.jobmanager.webhooks.attempts import Attempts
from services.jobmanager.webhooks.directory import Directory
from services.jobmanager.webhooks.fan_out import FanOut
from services.jobmanager.webhooks.look_up import SystemResolver
from services.jobmanager.webhooks.retry_rules import RetryRules
from services.jobmanager.webhooks.schedule import AT_ONCE, Schedule, Waiting
from shared import declaring, webhook_subjects
from shared.bus import open_bus
from shared.errors import BadMessage, BrokerUnavailable
from shared.reading import log_malformed, read_or_skip
from shared.topology import WEBHOOK_Q
from shared.webhook_messages import WebhookDelivery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from services.jobmanager.settings import Settings
    from services.jobmanager.webhooks.calls import Caller, Outcome
    from services.jobmanager.webhooks.look_up import Resolver
    from shared.bus import Bus, StoredMessage

    Part = Callable[[], Awaitable[None]]

T = TypeVar("T")
NAME = "webhooks"
_PAUSE_S = 0.5
_OTHERS_S = 60.0  # during an update two job managers may run: the one that did not store a delivery waits this long
_LONGEST_WAIT_S = 86_400.0  # even if the clock of an earlier job manager was wrong
log = logging.getLogger(__name__)


class Sender:
    """Keeps the schedule equal to the stream of deliveries, and makes the attempts that are due."""

    def __init__(self, bus: Bus, schedule: Schedule, attempts: Attempts) -> None:
        self._bus = bus
        self._schedule = schedule
        self._attempts = attempts
        self._changed = asyncio.Event()
        self._surplus: asyncio.Queue[Waiting] = asyncio.Queue()

    async def run(self) -> None:
        """Send until cancelled. Raises ConfigError if the broker refuses the sender's key."""
        await declaring.wait_until_declared(self._bus)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="webhooks.follow")
            group.create_task(self._drop(), name="webhooks.drop")
            while True:
                self._changed.clear()
                while (waiting := self._schedule.take()) is not None:
                    group.create_task(self._send(waiting), name=f"webhooks.send-{waiting.seq}")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._schedule.wait_s()):
                        await self._changed.wait()

    async def _follow(self) -> None:
        """Read all deliveries at the start and after each reconnect, and in between the live copies."""
        while True:
            connect = self._bus.connects
            try:
                async with self._bus.subscribe(webhook_subjects.LIVE_DELIVERIES, self._note):
                    self._schedule.clear()
                    async for page in self._bus.pages(WEBHOOK_Q, webhook_subjects.ALL_DELIVERIES):
                        for stored in page:
                            self._note_or_skip(stored)
                    await self._bus.next_connect(connect)
            except BrokerUnavailable:
                await asyncio.sleep(_PAUSE_S)
                await self._bus.up.wait()

    def _note_or_skip(self, stored: StoredMessage) -> None:
        try:
            self._note(stored, is_live=False)
        except BadMessage as error:
            log_malformed(stored.subject, stored.seq, error.message)

    def _note(self, stored: StoredMessage, *, is_live: bool = True) -> None:
        address = webhook_subjects.parse_delivery(stored.subject)
        delivery = read_or_skip(WebhookDelivery, stored) or WebhookDelivery()
        wait_s = min(max(0.0, delivery.due_at - time.time()), _LONGEST_WAIT_S)
        is_own = delivery.by == self._attempts.name
        if is_live and delivery.by and not is_own:
            wait_s += _OTHERS_S
        subject = stored.subject.removeprefix("live.")
        waiting = Waiting(subject, stored.seq, address, delivery.attempts, time.monotonic() + wait_s, is_own)
        is_asked_for = not delivery.by and subject not in self._schedule
        if is_asked_for and not self._schedule.has_room(address.owner):
            self._surplus.put_nowait(waiting)
        else:
            self._schedule.put(waiting)
            self._changed.set()

    async def _drop(self) -> None:
        """Delete tests and repetitions beyond the share of their owner, which would use the space of others."""
        while True:
            waiting = await self._surplus.get()
            await _until_done(self._bus, partial(self._attempts.drop, waiting))

    async def _send(self, waiting: Waiting) -> None:
        """Make one attempt and settle it, also over a restart of the broker: a finished call is not repeated."""
        has_failed = False
        try:
            result = await _until_done(self._bus, lambda: self._attempts.call(waiting))
            if result is not None:
                has_failed = not result.outcome.is_success
                await _until_done(self._bus, lambda: self._attempts.settle(result))
        except Exception:  # one endpoint must not end the others
            has_failed = True
            log.exception("webhook.crashed", extra={"endpoint": waiting.address.endpoint})
        finally:
            self._schedule.finish(waiting, has_failed=has_failed)
            self._changed.set()


async def _until_done(bus: Bus, step: Callable[[], Awaitable[T]]) -> T:
    """Repeat a step while the broker is away."""
    while True:
        try:
            return await step()
        except BrokerUnavailable:
            await asyncio.sleep(_PAUSE_S)
            await bus.up.wait()


class _LateCaller:
    """Opens the HTTP client at the first call: it takes 0.1 s and 8 MB, and most systems send no webhook."""

    def __init__(self, resolver: Resolver, settings: Settings, closing: AsyncExitStack) -> None:
        self._resolver = resolver
        self._settings = settings
        self._closing = closing
        self._lock = asyncio.Lock()
        self._caller: Caller | None = None

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Outcome:
        """See Caller."""
        return await (await self.open()).post(url, headers, body)

    async def open(self) -> Caller:
        """Return the client. Raises ConfigError for a file that has no certificate."""
        async with self._lock:
            if self._caller is None:
                from services.jobmanager.webhooks.calls import open_caller  # noqa: PLC0415 (see the class)

                settings = self._settings
                opened = open_caller(
                    self._resolver,
                    allowed=settings.webhooks.networks,
                    timeout_s=settings.webhooks_timeout_s,
                    at_once=AT_ONCE,
                    ca_file=settings.webhooks_ca_file,
                )
                self._caller = await self._closing.enter_async_context(opened)
            return self._caller


@asynccontextmanager
async def open_sender(settings: Settings, resolver: Resolver | None = None) -> AsyncIterator[dict[str, Part]]:
    """Yield the parts that send webhooks, by name; none on a broker with keys if the sender has no key.

    `resolver` replaces the look-up of the operating system. Raises ConfigError.
    """
    if settings.nats.nkey_file is not None and settings.webhooks_nkey_file is None:
        log.warning("webhooks.off", extra={"reason": "JOBMANAGER_WEBHOOKS_NKEY_FILE is not set"})
        yield {}
        return
    own = settings.nats.model_copy(update={"nkey_file": settings.webhooks_nkey_file, "inbox_prefix": None})
    system = SystemResolver()
    schedule = Schedule()
    metrics.WEBHOOKS_WAITING.set_function(lambda: len(schedule))
    try:
        async with open_bus(own, NAME, wait=False) as bus, AsyncExitStack() as closing:
            caller = _LateCaller(resolver or system, settings, closing)
            if settings.webhooks_ca_file is not None:
                await caller.open()  # a wrong file is an error of the start
            name = secrets.token_hex(4)
            directory = Directory(bus)
            fan_out = FanOut(bus, schedule, directory, name)
            rules = RetryRules(settings.webhook_delays_s, settings.webhooks_disable_after_s)
            sender = Sender(bus, schedule, Attempts(bus, directory, caller.post, fan_out.ends, rules, name))
            yield {"webhooks-fan-out": fan_out.run, "webhooks-send": sender.run}
    finally:
        system.close()
