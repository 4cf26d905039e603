"""The one way to talk to the broker: a connection that heals, durable publish, reads by subject, live subscriptions.

A publish is retried with its `Nats-Msg-Id` until a deadline, because a leader election answers nothing for seconds.
Reads use direct get: it needs no consumer, so nothing is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from shared.errors import ArtMancerError, BrokerUnavailable, StreamFull, WrongLastSequence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from nats.aio.msg import Msg
    from pydantic import BaseModel

    from shared.settings import NatsSettings

log = logging.getLogger(__name__)
_WRONG_LAST_SEQUENCE = {10071, 10164}
_STREAM_FULL = 10077
ATTEMPT_S = 2.0  # one publish or read; a healthy broker answers in a millisecond
_DISCONNECTED_GRACE_S = 2.0  # a restart of a single server takes less than one second
_BETWEEN_ATTEMPTS_S = 0.1
_READ_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream keeps it."""

    seq: int
    subject: str
    data: bytes
    msg_id: str = ""


class Bus:
    """A connection that heals itself. Made by `open_bus`; safe for one event loop."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.up = asyncio.Event()
        self._reconnected: list[Callable[[], Awaitable[None]]] = []

    @property
    def connected(self) -> bool:
        """Whether the broker answers at the moment."""
        return bool(self.client.is_connected)

    def on_reconnect(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run the action after each reconnect: core subscriptions miss what was sent meanwhile."""
        self._reconnected.append(action)

    async def reconnected(self) -> None:
        """Run what `on_reconnect` collected."""
        for action in self._reconnected:
            try:
                await action()
            except ArtMancerError as error:
                log.warning("bus.reconnect-action-failed", extra={"reason": error.message})

    async def publish(
        self,
        subject: str,
        message: BaseModel | bytes,
        *,
        msg_id: str | None = None,
        expect_last: int | None = None,
        headers: dict[str, str] | None = None,
        deadline_s: float = 15.0,
    ) -> int:
        """Store a message and return its sequence once the broker has it.

        `msg_id` makes retries harmless (the broker keeps one of each within its window); `expect_last` is the
        sequence that must be the newest on the subject, 0 for none. Raises WrongLastSequence, StreamFull,
        BrokerUnavailable.
        """
        body = message if isinstance(message, bytes) else message.model_dump_json(exclude_none=True).encode()
        sent = dict(headers or {})
        if msg_id is not None:
            sent["Nats-Msg-Id"] = msg_id
        if expect_last is not None:
            sent["Nats-Expected-Last-Subject-Sequence"] = str(expect_last)
        give_up = time.monotonic() + deadline_s
        while True:
            try:
                return await self._attempt(subject, body, sent)
            except BrokerUnavailable:
                patience = give_up if self.connected else min(give_up, time.monotonic() + _DISCONNECTED_GRACE_S)
                if not await self._usable_before(patience):
                    raise

    async def publish_first(self, stream: str, subject: str, message: BaseModel, *, msg_id: str) -> int:
        """Store the first and only message on a subject: of all that try, exactly one succeeds.

        Raises WrongLastSequence for the losers, BrokerUnavailable.
        """
        try:
            return await self.publish(subject, message, msg_id=msg_id, expect_last=0)
        except WrongLastSequence:
            # The broker checks the sequence before it looks for duplicates: the winner may be our own first attempt,
            # whose acknowledgement was lost.
            stored = await self.last(stream, subject)
            if stored is not None and stored.msg_id == msg_id:
                return stored.seq
            raise

    async def _attempt(self, subject: str, body: bytes, headers: dict[str, str]) -> int:
        ack = json.loads((await self.request(subject, body, headers=headers)).data)
        if "error" in ack:
            _raise_refusal(ack["error"])
        return int(ack["seq"])

    async def _usable_before(self, moment: float) -> bool:
        """Wait a little for the broker to come back; False when the moment has passed."""
        left = moment - time.monotonic() - _BETWEEN_ATTEMPTS_S
        if left <= 0:
            return False
        await asyncio.sleep(_BETWEEN_ATTEMPTS_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self.up.wait()
        return self.connected

    async def request(
        self, subject: str, body: bytes = b"", *, timeout_s: float = ATTEMPT_S, headers: dict[str, str] | None = None
    ) -> Msg:
        """Send and return the one reply. Raises BrokerUnavailable, also when nobody listens or replies in time."""
        self.require_connection()
        # The client has asyncio.wait_for as its limit: until Python 3.12 it loses a cancel that comes with the reply.
        with translated():
            async with asyncio.timeout(timeout_s):
                return await self.client.request(subject, body, timeout=None, headers=headers or None)  # type: ignore[arg-type]

    async def emit(self, subject: str, body: bytes = b"") -> None:
        """Send to whoever listens now. Raises BrokerUnavailable."""
        self.require_connection()
        with translated():
            await self.client.publish(subject, body)

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the newest message on one exact subject. Raises BrokerUnavailable."""
        reply = await self.request(f"$JS.API.DIRECT.GET.{stream}.{subject}")
        return None if status_of(reply) else _stored(reply)

    async def get(self, stream: str, seq: int) -> Stored | None:
        """Return one message by its sequence. Raises BrokerUnavailable."""
        return next(iter((await self._read(stream, {"seq": seq}))[0]), None)

    async def first(self, stream: str, pattern: str, after: int = 0) -> Stored | None:
        """Return the oldest message on a subject pattern, behind a sequence. Raises BrokerUnavailable."""
        return next(iter((await self._read(stream, {"seq": after + 1, "next_by_subj": pattern}))[0]), None)

    async def history(self, stream: str, pattern: str, after: int = 0) -> list[Stored]:
        """Return all messages on a subject pattern, oldest first, behind a sequence. Raises BrokerUnavailable."""
        messages: list[Stored] = []
        more = True
        while more:
            start = (messages[-1].seq if messages else after) + 1
            found, more = await self._read(stream, {"seq": start, "next_by_subj": pattern, "batch": _READ_BATCH})
            messages += found
        return messages

    async def _read(self, stream: str, query: dict[str, Any]) -> tuple[list[Stored], bool]:
        """Direct get; returns the messages and whether more are stored."""
        self.require_connection()
        replies: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self.client.new_inbox()
        found: list[Stored] = []
        with translated():
            subscription = await self.client.subscribe(inbox, cb=into(replies), pending_bytes_limit=-1)
            try:
                await self.client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(query).encode(), reply=inbox)
                while True:
                    async with asyncio.timeout(ATTEMPT_S):
                        reply = await replies.get()
                    status = status_of(reply)
                    if status == "503":  # no leader at the moment, which is not "nothing stored"
                        raise BrokerUnavailable
                    if status:
                        more = int((reply.headers or {}).get("Nats-Num-Pending", "0")) > 0
                        return found, status == "204" and more and bool(found)
                    found.append(_stored(reply))
                    if "batch" not in query:
                        return found, False
            finally:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()

    async def delete(self, stream: str, seq: int) -> None:
        """Remove one message; none is fine too. Raises BrokerUnavailable."""
        await self._manage(f"$JS.API.STREAM.MSG.DELETE.{stream}", {"seq": seq})

    async def purge(self, stream: str, pattern: str) -> None:
        """Remove the messages on a subject pattern. Raises BrokerUnavailable."""
        await self._manage(f"$JS.API.STREAM.PURGE.{stream}", {"filter": pattern})

    async def subjects_in(self, stream: str, pattern: str) -> list[str]:
        """List the subjects that hold messages (at most 100,000, the broker's page). Raises BrokerUnavailable."""
        answer = await self._manage(f"$JS.API.STREAM.INFO.{stream}", {"subjects_filter": pattern})
        return list(answer.get("state", {}).get("subjects") or {})

    async def _manage(self, subject: str, query: dict[str, Any]) -> dict[str, Any]:
        return dict(json.loads((await self.request(subject, json.dumps(query).encode())).data))

    @asynccontextmanager
    async def subscribe(self, subject: str, handle: Callable[[Stored], None]) -> AsyncIterator[None]:
        """Call `handle` for each message sent from now on; `seq` is 0 unless a stream republished it."""

        async def receive(msg: Msg) -> None:
            handle(Stored(int((msg.headers or {}).get("Nats-Sequence", "0")), msg.subject, msg.data))

        with translated():
            subscription = await self.client.subscribe(subject, cb=receive)
        try:
            yield
        finally:
            with contextlib.suppress(nats.errors.Error, ConnectionError):
                await subscription.unsubscribe()

    def require_connection(self) -> None:
        """Raise BrokerUnavailable at once where waiting would not help."""
        if not self.client.is_connected:
            raise BrokerUnavailable


@asynccontextmanager
async def open_bus(settings: NatsSettings, name: str, *, wait: bool = True) -> AsyncIterator[Bus]:
    """Connect, and stay connected until the block ends.

    With `wait=False` the block starts at once; until the broker is there, every call raises BrokerUnavailable.
    """
    client = Client()
    bus = Bus(client)
    connecting = asyncio.create_task(_connect(bus, settings, name), name="bus.connect")
    try:
        if wait:
            await connecting
        yield bus
    finally:
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await connecting
        with contextlib.suppress(nats.errors.Error, ConnectionError, TimeoutError):
            if client.is_connected:
                await client.flush(timeout=1)
        with contextlib.suppress(nats.errors.Error, ConnectionError, TimeoutError):
            await client.close()


async def _connect(bus: Bus, settings: NatsSettings, name: str) -> None:
    async def on_error(error: Exception) -> None:
        log.warning("bus.error", extra={"reason": str(error) or type(error).__name__})

    async def on_disconnect() -> None:
        bus.up.clear()
        if not bus.client.is_closed:
            log.warning("bus.disconnected")

    async def on_reconnect() -> None:
        bus.up.set()
        log.info("bus.reconnected")
        await bus.reconnected()

    options: dict[str, Any] = {}
    if settings.ca_file is not None:
        options["tls"] = ssl.create_default_context(cafile=str(settings.ca_file))
    if settings.nkey_file is not None:
        options["nkeys_seed"] = str(settings.nkey_file)
    await bus.client.connect(
        servers=settings.url.split(","),
        name=name,
        user=settings.user,
        password=settings.password,
        inbox_prefix=settings.inbox_prefix,
        error_cb=on_error,
        disconnected_cb=on_disconnect,
        reconnected_cb=on_reconnect,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.25,  # type: ignore[arg-type]  # seconds; the annotation is too narrow
        ping_interval=10,
        **options,
    )
    bus.up.set()
    log.info("bus.connected")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what nats raises into our errors: all of it means that the broker cannot serve now."""
    try:
        yield
    except (TimeoutError, nats.errors.Error, ConnectionError) as error:
        raise BrokerUnavailable from error


def _raise_refusal(error: dict[str, Any]) -> None:
    number = error.get("err_code")
    if number in _WRONG_LAST_SEQUENCE:
        raise WrongLastSequence
    if number == _STREAM_FULL:
        raise StreamFull
    raise BrokerUnavailable(f"The message broker refused: {error.get('description', 'no reason given')}.")


def status_of(msg: Msg) -> str:
    """Return the status that the broker puts in place of a message, or nothing."""
    return (msg.headers or {}).get("Status", "")


def _stored(msg: Msg) -> Stored:
    headers = msg.headers or {}
    return Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], msg.data, headers.get("Nats-Msg-Id", ""))


def into(queue: asyncio.Queue[Msg]) -> Callable[[Msg], Awaitable[None]]:
    """Make a subscription callback that fills a queue (cheaper than the client's own iterator)."""

    async def receive(msg: Msg) -> None:
        queue.put_nowait(msg)

    return receive
