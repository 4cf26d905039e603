"""Work that is pulled from a stream and must be settled: taken one at a time, or consumed as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Self

import nats.errors

from shared import metrics, subjects
from shared.connection import ATTEMPT_S, into, status_of, translate_errors
from shared.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from nats.aio.msg import Msg

    from shared.bus import Bus

_HEARTBEAT_S = 0.5
_PULL_S = 30.0


class Delivery:
    """A pulled message: exactly one of `ack`, `retry` and `drop` settles it, `extend` keeps the lease meanwhile."""

    __slots__ = ("_msg", "attempt", "consumer_seq", "data", "headers", "pending", "seq", "subject")

    def __init__(self, msg: Msg) -> None:
        self._msg = msg
        self.subject: str = msg.subject
        self.data: bytes = msg.data
        self.headers: dict[str, str] = msg.headers or {}
        metadata = msg.metadata
        self.attempt: int = metadata.num_delivered
        if self.attempt > 1:
            metrics.REDELIVERIES.labels(metadata.consumer).inc()
        self.seq: int = metadata.sequence.stream
        self.consumer_seq: int = metadata.sequence.consumer  # without gaps, where one reader gets all
        self.pending: int = metadata.num_pending  # that are still to be delivered

    async def ack(self) -> None:
        """Settle for good, and wait until the broker has noted it. Raises BrokerUnavailable."""
        with translate_errors():
            async with asyncio.timeout(ATTEMPT_S):
                await self._msg.ack_sync(timeout=None)  # type: ignore[arg-type]  # see Connection.request

    async def ack_nowait(self) -> None:
        """Settle without waiting, where a second delivery does no harm."""
        with translate_errors():
            await self._msg.ack()

    async def extend(self) -> None:
        """Keep the lease for another period."""
        with translate_errors():
            await self._msg.in_progress()

    async def retry(self, delay_s: float = 0.0) -> None:
        """Give it back, to be delivered again after the delay."""
        with translate_errors():
            await self._msg.nak(delay=delay_s or None)

    async def drop(self, reason: str) -> None:
        """Settle as unusable; the reason shows in the broker's advisory."""
        with translate_errors():
            await self._msg._client.publish(self._msg.reply, b"+TERM " + reason.encode())  # noqa: SLF001


async def pull(bus: Bus, stream: str, consumer: str, *, wait_s: float = 0.0) -> Delivery | None:
    """Pull one message as `Puller.pull` does."""
    async with Puller(bus) as puller:
        return await puller.pull(stream, consumer, wait_s=wait_s)


class Puller:
    """Takes one message at a time, from any consumer, over one subscription of its own. To be entered."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._open = AsyncExitStack()
        self._clean = False  # no answer is outstanding

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def pull(self, stream: str, consumer: str, *, wait_s: float = 0.0) -> Delivery | None:
        """Pull one message if there is one within `wait_s`.

        A consumer hears of a message only a moment after it is stored, so whoever knows that there is one should wait.
        Raises BrokerUnavailable, also when the consumer does not exist.
        """
        if not self._clean:  # a late answer to the last question must not be taken for the one to this
            await self._open.aclose()
            self._inbox, self._replies = await self._open.enter_async_context(_inbox(self._bus))
        self._bus.require_connection()
        self._clean = False
        patience = {"expires": int(wait_s * 1e9)} if wait_s else {"no_wait": True}
        await _ask(self._bus, stream, consumer, self._inbox, {"batch": 1, **patience})
        with translate_errors():
            async with asyncio.timeout(ATTEMPT_S):
                reply = await self._replies.get()
        self._clean = True
        status = status_of(reply)
        if not status:
            return Delivery(reply)
        _raise_if_gone(status, reply)
        return None


async def consume(
    bus: Bus, stream: str, consumer: str, *, batch: int = 100, linger_s: float = 0.0
) -> AsyncGenerator[list[Delivery], None]:
    """Yield messages as they come, for ever, over reconnects: all that are here, `linger_s` after the first.

    A pull that was outstanding when its server died never ends by itself, so it asks for heartbeats and is repeated
    when three are missed. Raises BrokerUnavailable when the consumer is gone.
    """
    ask = {"batch": batch, "expires": int(_PULL_S * 1e9), "idle_heartbeat": int(_HEARTBEAT_S * 1e9)}
    async with _inbox(bus) as (inbox, replies):
        due = 0  # messages that the outstanding pull may still bring
        while True:
            if due <= 0:
                due = batch
                await _ask(bus, stream, consumer, inbox, ask)
            try:
                async with asyncio.timeout(3 * _HEARTBEAT_S):
                    msg = await replies.get()
            except TimeoutError:
                due = 0
                continue
            if linger_s > 0 and not status_of(msg):
                await asyncio.sleep(linger_s)
            arrived, is_over = _sorted([msg, *_waiting(replies)])
            due = 0 if is_over else due - len(arrived)
            if arrived:
                yield arrived


async def redeliver_unsettled(bus: Bus, stream: str, consumer: str) -> None:
    """Have everything that was delivered and not settled delivered again, now. Raises BrokerUnavailable.

    For the single reader of a consumer when it starts: what its predecessor held would wait for the lease otherwise.
    """
    with translate_errors():
        await bus.client.jetstream().reset_consumer(stream, consumer)


async def redeliver_from(bus: Bus, stream: str, consumer: str, seq: int) -> None:
    """Have everything from a sequence on delivered again, settled or not. Raises BrokerUnavailable."""
    with translate_errors():
        await bus.client.jetstream().reset_consumer(stream, consumer, seq=seq)


def _sorted(msgs: list[Msg]) -> tuple[list[Delivery], bool]:
    """Tell deliveries from statuses, and whether one of those ends the pull."""
    arrived, is_over = [], False
    for msg in msgs:
        status = status_of(msg)
        if not status:
            arrived.append(Delivery(msg))
        elif status != "100":
            is_over = True
            _raise_if_gone(status, msg)
    return arrived, is_over


def _waiting(replies: asyncio.Queue[Msg]) -> Iterator[Msg]:
    while not replies.empty():
        yield replies.get_nowait()


@asynccontextmanager
async def _inbox(bus: Bus) -> AsyncIterator[tuple[str, asyncio.Queue[Msg]]]:
    # Pulled messages keep their own subject, so the client's shared reply inbox cannot route them.
    replies: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = bus.client.new_inbox()
    bus.require_connection()
    with translate_errors():
        subscription = await bus.client.subscribe(inbox, cb=into(replies), pending_bytes_limit=-1)
    try:
        yield inbox, replies
    finally:
        with contextlib.suppress(nats.errors.Error, ConnectionError):
            await subscription.unsubscribe()


async def _ask(bus: Bus, stream: str, consumer: str, inbox: str, ask: dict[str, int | bool]) -> None:
    subject = subjects.api("CONSUMER.MSG.NEXT", stream, consumer)
    with translate_errors():
        await bus.client.publish(subject, json.dumps(ask).encode(), reply=inbox)


def _raise_if_gone(status: str, msg: Msg) -> None:
    description = (msg.headers or {}).get("Description", "")
    if status == "503" or "Consumer Deleted" in description or "Not Found" in description:
        raise BrokerUnavailable(f"The consumer is gone: {description or 'no responders'}.")
