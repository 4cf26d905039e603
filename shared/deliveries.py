"""Pulls messages from a consumer, one at a time or as a stream of batches. Each message must be settled."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Self

import nats.errors

from shared import metrics, subjects
from shared.connection import ATTEMPT_S, enqueue_in, status_of, translate_errors
from shared.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from nats.aio.msg import Msg
    from nats.js.api import ConsumerInfo

    from shared.bus import Bus

_HEARTBEAT_S = 0.5
_PULL_S = 30.0
_CONFIRM_S, _BETWEEN_S = 0.5, 0.1


class Delivery:
    """A pulled message. Settle it once by `ack`, `retry` or `drop`; until then `extend` keeps its lease."""

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
        self.consumer_seq: int = metadata.sequence.consumer  # no gaps for a single reader
        self.pending: int = metadata.num_pending  # messages that are not delivered yet

    async def ack(self) -> None:
        """Settle as done and wait for the broker's confirmation. Raises BrokerUnavailable."""
        with translate_errors():
            async with asyncio.timeout(ATTEMPT_S):
                await self._msg.ack_sync(timeout=None)  # type: ignore[arg-type]  # see Connection.request

    async def ack_nowait(self) -> None:
        """Settle as done without waiting, where a second delivery is harmless."""
        with translate_errors():
            await self._msg.ack()

    async def extend(self) -> None:
        """Extend the lease by one period."""
        with translate_errors():
            await self._msg.in_progress()

    async def retry(self, delay_s: float = 0.0) -> None:
        """Return the message, for delivery after the delay."""
        with translate_errors():
            await self._msg.nak(delay=delay_s or None)

    async def hand_back(self, deadline_s: float) -> None:
        """Return the message and wait for the broker's confirmation, also over its restart.

        Without the confirmation, the message may wait until its lease ends. Raises BrokerUnavailable after the
        deadline.
        """
        with translate_errors():
            async with asyncio.timeout(deadline_s):
                while not await self._is_handed_back():  # noqa: ASYNC110 (a lost connection has no event here)
                    await asyncio.sleep(_BETWEEN_S)

    async def _is_handed_back(self) -> bool:
        client = self._msg._client  # noqa: SLF001
        if not client.is_connected:  # the client would send it after its reconnect, and could end a later delivery
            return False
        with contextlib.suppress(TimeoutError, nats.errors.Error, ConnectionError):
            async with asyncio.timeout(_CONFIRM_S):
                await client.request(self._msg.reply, b"-NAK", timeout=None)  # type: ignore[arg-type]  # see ack
                return True
        return False

    async def drop(self, reason: str) -> None:
        """Settle as unusable; the broker's advisory contains the reason."""
        with translate_errors():
            await self._msg._client.publish(self._msg.reply, b"+TERM " + reason.encode())  # noqa: SLF001


async def pull(bus: Bus, stream: str, consumer: str, *, wait_s: float = 0.0) -> Delivery | None:
    """Pull one message as `Puller.pull` does."""
    async with Puller(bus) as puller:
        return await puller.pull(stream, consumer, wait_s=wait_s)


class Puller:
    """Pulls one message at a time from any consumer, over one subscription. Use it as a context manager."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._open = AsyncExitStack()
        self._clean = False  # no reply is outstanding

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def pull(self, stream: str, consumer: str, *, wait_s: float = 0.0) -> Delivery | None:
        """Pull one message if there is one within `wait_s`.

        A consumer delivers a message a moment after it is stored, so set `wait_s` for a message that must exist.
        Raises BrokerUnavailable, also when the consumer does not exist.
        """
        if not self._clean:  # a late reply to the last pull must not count as a reply to this one
            await self._open.aclose()
            self._inbox, self._replies = await self._open.enter_async_context(_inbox(self._bus))
        self._bus.require_connection()
        self._clean = False
        limit = {"expires": int(wait_s * 1e9)} if wait_s else {"no_wait": True}
        await _request(self._bus, stream, consumer, self._inbox, {"batch": 1, **limit})
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
    """Yield batches of messages without end, also after reconnects; a batch ends `linger_s` after its first message.

    A pull does not end when its server dies. So it requests heartbeats, and is repeated after three missing ones.
    Raises BrokerUnavailable when the consumer no longer exists.
    """
    request = {"batch": batch, "expires": int(_PULL_S * 1e9), "idle_heartbeat": int(_HEARTBEAT_S * 1e9)}
    async with _inbox(bus) as (inbox, replies):
        due = 0  # messages that the outstanding pull may still bring
        while True:
            if due <= 0:
                due = batch
                await _request(bus, stream, consumer, inbox, request)
            try:
                async with asyncio.timeout(3 * _HEARTBEAT_S):
                    msg = await replies.get()
            except TimeoutError:
                due = 0
                continue
            if linger_s > 0 and not status_of(msg):
                await asyncio.sleep(linger_s)
            arrived, is_over = _split([msg, *_drain_queue(replies)])
            due = 0 if is_over else due - len(arrived)
            if arrived:
                yield arrived


async def redeliver_unsettled(bus: Bus, stream: str, consumer: str) -> None:
    """Deliver all unsettled messages again at once. Raises BrokerUnavailable.

    The single reader of a consumer calls it at its start; otherwise the messages of its predecessor wait until their
    leases end.
    """
    await _reset(bus, stream, consumer)


async def redeliver_from(bus: Bus, stream: str, consumer: str, seq: int) -> None:
    """Deliver all messages from a sequence on again, settled or not. Raises BrokerUnavailable."""
    await _reset(bus, stream, consumer, seq)


async def _reset(bus: Bus, stream: str, consumer: str, seq: int | None = None) -> None:
    bus.require_connection()
    with translate_errors():
        async with asyncio.timeout(ATTEMPT_S):
            # The client's own timeout would lose a cancellation that comes with the reply: see Connection.request.
            await bus.client.jetstream(timeout=None).reset_consumer(stream, consumer, seq=seq)


async def settled_until(bus: Bus, stream: str, consumer: str) -> int:
    """Return the stream's sequence up to which the consumer has settled all messages. Raises BrokerUnavailable."""
    floor = (await _info(bus, stream, consumer)).ack_floor
    return floor.stream_seq if floor else 0


async def is_paused(bus: Bus, stream: str, consumer: str) -> bool:
    """Return whether an operator has paused the consumer. Raises BrokerUnavailable."""
    return bool((await _info(bus, stream, consumer)).paused)


async def _info(bus: Bus, stream: str, consumer: str) -> ConsumerInfo:
    bus.require_connection()
    with translate_errors():
        async with asyncio.timeout(ATTEMPT_S):
            # The client's own timeout would lose a cancellation that comes with the reply: see Connection.request.
            info: ConsumerInfo = await bus.client.jetstream(timeout=None).consumer_info(stream, consumer)
    return info


def _split(msgs: list[Msg]) -> tuple[list[Delivery], bool]:
    """Return the deliveries among the messages, and whether a status message ends the pull."""
    arrived, is_over = [], False
    for msg in msgs:
        status = status_of(msg)
        if not status:
            arrived.append(Delivery(msg))
        elif status != "100":
            is_over = True
            _raise_if_gone(status, msg)
    return arrived, is_over


def _drain_queue(replies: asyncio.Queue[Msg]) -> Iterator[Msg]:
    while not replies.empty():
        yield replies.get_nowait()


@asynccontextmanager
async def _inbox(bus: Bus) -> AsyncIterator[tuple[str, asyncio.Queue[Msg]]]:
    # Pulled messages keep their own subject, so the client's shared reply inbox cannot route them.
    replies: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = bus.client.new_inbox()
    bus.require_connection()
    with translate_errors():
        subscription = await bus.client.subscribe(inbox, cb=enqueue_in(replies), pending_bytes_limit=-1)
    try:
        yield inbox, replies
    finally:
        with contextlib.suppress(nats.errors.Error, ConnectionError):
            await subscription.unsubscribe()


async def _request(bus: Bus, stream: str, consumer: str, inbox: str, request: dict[str, int | bool]) -> None:
    subject = subjects.api("CONSUMER.MSG.NEXT", stream, consumer)
    with translate_errors():
        await bus.client.publish(subject, json.dumps(request).encode(), reply=inbox)


def _raise_if_gone(status: str, msg: Msg) -> None:
    description = (msg.headers or {}).get("Description", "")
    if status == "503" or "Consumer Deleted" in description or "Not Found" in description:
        raise BrokerUnavailable(f"The consumer does not exist: {description or 'no responders'}.")
