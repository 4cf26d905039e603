"""The one way to the streams: durable publish, reads by subject, live subscriptions.

A publish is retried with its `Nats-Msg-Id` until a deadline, because a leader election answers nothing for seconds; a
read is tried three times. Reads use direct get: it needs no consumer, so nothing is left behind. What has been stored
is found by the next read, also in a cluster, where the copy that answers may be behind: before it says "nothing", the
leader is asked.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import nats.errors

from shared import subjects, tracing
from shared.connection import ATTEMPT_S, Connection, connect, into, status_of, translate_errors
from shared.errors import BrokerUnavailable, StreamFull, WrongLastSequence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from nats.aio.msg import Msg
    from pydantic import BaseModel

    from shared.settings import NatsSettings

T = TypeVar("T")
PUBLISH_S = 15.0  # so long a publish is tried, unless it is told otherwise
_WRONG_LAST_SEQUENCE = {10071, 10164}
_STREAM_FULL = 10077
_NO_MESSAGE = 10037
_DISCONNECTED_GRACE_S = 2.0  # a restart of a single server takes less than one second
_BETWEEN_ATTEMPTS_S = 0.1
_READ_BATCH = 1000
_READ_ATTEMPTS = 3  # where the broker is silent


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as a stream keeps it."""

    seq: int
    subject: str
    data: bytes
    msg_id: str = ""


class Bus(Connection):
    """A connection and what the broker stores. Made by `open_bus`; safe for one event loop."""

    async def publish(
        self,
        subject: str,
        message: BaseModel | bytes,
        *,
        msg_id: str | None = None,
        expect_last: int | None = None,
        expect_on: str | None = None,
        headers: dict[str, str] | None = None,
        deadline_s: float = PUBLISH_S,
    ) -> int:
        """Store a message and return its sequence once the broker has it.

        `msg_id` makes retries harmless (the broker keeps one of each within its window); `expect_last` is the
        sequence that must be the newest on the subject, or on `expect_on` instead, 0 for none. Raises
        WrongLastSequence, StreamFull, BrokerUnavailable.
        """
        body = message if isinstance(message, bytes) else message.model_dump_json(exclude_none=True).encode()
        sent = dict(headers or {})
        if msg_id is not None:
            sent["Nats-Msg-Id"] = msg_id
        if expect_last is not None:
            sent["Nats-Expected-Last-Subject-Sequence"] = str(expect_last)
        if expect_on is not None:
            sent["Nats-Expected-Last-Subject-Sequence-Subject"] = expect_on
        with tracing.publish_span(f"publish {subjects.kind(subject)}", sent):
            return await self._publish(subject, body, sent, time.monotonic() + deadline_s)

    async def _publish(self, subject: str, body: bytes, headers: dict[str, str], give_up: float) -> int:
        while True:
            try:
                return await self._attempt(subject, body, headers, min(ATTEMPT_S, give_up - time.monotonic()))
            except BrokerUnavailable:
                patience = give_up if self.is_connected else min(give_up, time.monotonic() + _DISCONNECTED_GRACE_S)
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

    async def _attempt(self, subject: str, body: bytes, headers: dict[str, str], timeout_s: float) -> int:
        ack = json.loads((await self.request(subject, body, headers=headers, timeout_s=timeout_s)).data)
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
        return self.is_connected

    async def _ask(self, subject: str, body: bytes = b"") -> Msg:
        return await self._patiently(lambda: self.request(subject, body))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask what may be asked twice again where the broker is silent: its disk may hold it up for seconds."""
        for _ in range(_READ_ATTEMPTS - 1):
            try:
                return await ask()
            except BrokerUnavailable as error:
                if not (self.is_connected and isinstance(error.__cause__, TimeoutError)):
                    raise
        return await ask()

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        """Return the newest message on one exact subject. Raises BrokerUnavailable."""
        reply = await self._ask(subjects.api("DIRECT.GET", stream, subject))
        return await self._absent(stream, {"last_by_subj": subject}, reply) if status_of(reply) else _stored(reply)

    async def get(self, stream: str, seq: int) -> StoredMessage | None:
        """Return one message by its sequence. Raises BrokerUnavailable."""
        return await self._one(stream, {"seq": seq})

    async def first(self, stream: str, pattern: str, after: int = 0) -> StoredMessage | None:
        """Return the oldest message on a subject pattern, behind a sequence. Raises BrokerUnavailable."""
        return await self._one(stream, {"seq": after + 1, "next_by_subj": pattern})

    async def history(self, stream: str, pattern: str, after: int = 0) -> list[StoredMessage]:
        """Return all messages on a subject pattern, oldest first, behind a sequence. Raises BrokerUnavailable."""
        messages: list[StoredMessage] = []
        more = True
        while more:
            query = {"seq": after + 1, "next_by_subj": pattern, "batch": _READ_BATCH}
            found, more = await self._patiently(partial(self._read, stream, query))
            messages += found
            after = messages[-1].seq if messages else after
        while late := await self._at_leader(stream, {"seq": after + 1, "next_by_subj": pattern}):
            messages.append(late)
            after = late.seq
        return messages

    async def _one(self, stream: str, query: dict[str, Any]) -> StoredMessage | None:
        reply = await self._ask(subjects.api("DIRECT.GET", stream), json.dumps(query).encode())
        return await self._absent(stream, query, reply) if status_of(reply) else _stored(reply)

    async def _absent(self, stream: str, query: dict[str, Any], reply: Msg) -> StoredMessage | None:
        if status_of(reply) == "503":  # no leader at the moment, which is not "nothing stored"
            raise BrokerUnavailable
        return await self._at_leader(stream, query)

    async def _at_leader(self, stream: str, query: dict[str, Any]) -> StoredMessage | None:
        """Ask whether there is more: the copy in a cluster that answers a direct get may be milliseconds behind."""
        if not self.is_clustered:
            return None
        answer = await self._manage(subjects.api("STREAM.MSG.GET", stream), query)
        if "message" in answer:
            return _stored_at_leader(answer["message"])
        if answer["error"].get("err_code") == _NO_MESSAGE:
            return None
        raise BrokerUnavailable

    async def _read(self, stream: str, query: dict[str, Any]) -> tuple[list[StoredMessage], bool]:
        """Direct get of a batch; returns the messages and whether more are stored."""
        self.require_connection()
        replies: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self.client.new_inbox()
        found: list[StoredMessage] = []
        with translate_errors():
            subscription = await self.client.subscribe(inbox, cb=into(replies), pending_bytes_limit=-1)
            try:
                await self.client.publish(subjects.api("DIRECT.GET", stream), json.dumps(query).encode(), reply=inbox)
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
            finally:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()

    async def delete(self, stream: str, seq: int) -> None:
        """Remove one message; none is fine too. Raises BrokerUnavailable."""
        await self._manage(subjects.api("STREAM.MSG.DELETE", stream), {"seq": seq})

    async def purge(self, stream: str, pattern: str) -> None:
        """Remove the messages on a subject pattern. Raises BrokerUnavailable."""
        await self._manage(subjects.api("STREAM.PURGE", stream), {"filter": pattern})

    async def subjects_in(self, stream: str, pattern: str) -> list[str]:
        """List the subjects that hold messages. Raises BrokerUnavailable."""
        listed: dict[str, int] = {}
        while True:
            page = await self._info(stream, {"subjects_filter": pattern, "offset": len(listed)})
            more = page["state"].get("subjects") or {}
            listed |= more
            if not more or len(listed) >= page.get("total", 0):
                return list(listed)

    async def creation_time(self, stream: str) -> datetime:
        """Return since when this stream exists; one that was deleted and declared again counts from 1 again.

        Raises BrokerUnavailable.
        """
        return datetime.fromisoformat((await self._info(stream, {}))["created"])

    async def _info(self, stream: str, query: dict[str, Any]) -> dict[str, Any]:
        answer = await self._manage(subjects.api("STREAM.INFO", stream), query)
        if "error" in answer:
            raise BrokerUnavailable
        return answer

    async def _manage(self, subject: str, query: dict[str, Any]) -> dict[str, Any]:
        return dict(json.loads((await self._ask(subject, json.dumps(query).encode())).data))

    @asynccontextmanager
    async def subscribe(self, subject: str, handle: Callable[[StoredMessage], None]) -> AsyncIterator[None]:
        """Call `handle` for each message sent from now on; `seq` is 0 unless a stream republished it."""

        async def receive(msg: Msg) -> None:
            handle(StoredMessage(int((msg.headers or {}).get("Nats-Sequence", "0")), msg.subject, msg.data))

        with translate_errors():
            subscription = await self.client.subscribe(subject, cb=receive)
        try:
            yield
        finally:
            with contextlib.suppress(nats.errors.Error, ConnectionError):
                await subscription.unsubscribe()


@asynccontextmanager
async def open_bus(settings: NatsSettings, name: str, *, wait: bool = True) -> AsyncIterator[Bus]:
    """Connect, and stay connected until the block ends.

    With `wait=False` the block starts at once; until the broker is there, every call raises BrokerUnavailable, and
    `wait_until_open` returns when it is. Raises ConfigError when the broker will never let us in.
    """
    bus = Bus()
    bus.opening = asyncio.create_task(connect(bus, settings, name), name="bus.connect")
    try:
        if wait:
            await bus.wait_until_open()
        yield bus
    finally:
        bus.opening.cancel()
        await asyncio.gather(bus.opening, return_exceptions=True)  # to await it would swallow a cancel of our own
        with contextlib.suppress(nats.errors.Error, ConnectionError, TimeoutError):
            if bus.client.is_connected:
                await bus.client.flush(timeout=1)
        with contextlib.suppress(nats.errors.Error, ConnectionError, TimeoutError):
            if bus.client.options:  # what never began to connect cannot be closed
                await bus.client.close()


def _raise_refusal(error: dict[str, Any]) -> None:
    number = error.get("err_code")
    if number in _WRONG_LAST_SEQUENCE:
        raise WrongLastSequence
    if number == _STREAM_FULL:
        raise StreamFull
    raise BrokerUnavailable(f"The message broker refused: {error.get('description', 'no reason given')}.")


def _stored(msg: Msg) -> StoredMessage:
    headers = msg.headers or {}
    return StoredMessage(
        int(headers["Nats-Sequence"]), headers["Nats-Subject"], msg.data, headers.get("Nats-Msg-Id", "")
    )


def _stored_at_leader(message: dict[str, Any]) -> StoredMessage:
    msg_id = re.search(rb"Nats-Msg-Id: *(\S+)", base64.b64decode(message.get("hdrs", "")))
    data = base64.b64decode(message.get("data", ""))
    return StoredMessage(message["seq"], message["subject"], data, msg_id[1].decode() if msg_id else "")
