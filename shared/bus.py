"""Access to the streams: durable publish, reads by subject, live subscriptions.

A publish is retried with its `Nats-Msg-Id` until a deadline, because during a leader election the broker does not reply
for seconds; a read is tried three times. Reads use direct get, which needs no consumer. A read finds every message that
was stored before it, also in a cluster: a replica may be behind, so an empty result is confirmed by the leader.
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
from shared.connection import ATTEMPT_S, Connection, connect, enqueue_in, status_of, translate_errors
from shared.errors import BadMessage, BrokerUnavailable, StreamFull, WrongLastSequence
from shared.reading import log_malformed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from nats.aio.msg import Msg
    from pydantic import BaseModel

    from shared.settings import NatsSettings

    Handle = Callable[["StoredMessage"], None]

T = TypeVar("T")
PUBLISH_S = 15.0  # the time for all attempts of a publish
_WRONG_LAST_SEQUENCE = {10071, 10164}
_STREAM_FULL = 10077
_NO_MESSAGE = 10037
_DISCONNECTED_GRACE_S = 2.0  # a restart of a single server takes less than one second
_BETWEEN_ATTEMPTS_S = 0.1
_PAGE = {"batch": 1000, "max_bytes": 4 * 1024**2}
_SEQUENCE = re.compile(r"[0-9]{1,20}")
_READ_ATTEMPTS = 3  # if the broker does not reply


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a stream, or a live message with `seq` 0."""

    seq: int
    subject: str
    data: bytes
    msg_id: str = ""


class Bus(Connection):
    """A connection with access to streams. Opened by `open_bus`; for use in one event loop."""

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
        verify_in: str | None = None,
    ) -> int:
        """Store a message and return its sequence after the broker's acknowledgement.

        `msg_id` makes retries idempotent within the stream's duplicate window. `expect_last` is the required sequence
        of the newest message on the subject, or on `expect_on`; 0 means no message. With `verify_in`, the stream, a
        duplicate of a deleted message is stored. Raises WrongLastSequence, StreamFull, TooLarge, BrokerUnavailable.
        """
        body = message if isinstance(message, bytes) else message.model_dump_json(exclude_none=True).encode()
        sent = {**(headers or {}), **({} if msg_id is None else {"Nats-Msg-Id": msg_id})}
        if expect_last is not None:
            sent["Nats-Expected-Last-Subject-Sequence"] = str(expect_last)
        if expect_on is not None:
            sent["Nats-Expected-Last-Subject-Sequence-Subject"] = expect_on
        with tracing.publish_span(f"publish {subjects.kind(subject)}", sent):
            ack = await self._publish(subject, body, sent, time.monotonic() + deadline_s)
        seq = int(ack["seq"])
        if verify_in is None or "duplicate" not in ack:
            return seq
        stored = await self.get(verify_in, seq)
        if stored is not None and stored.msg_id == msg_id:  # after a damaged file another message has its sequence
            return seq
        # The broker remembers ids of deleted messages. All repetitions derive one more id, so that one stores it.
        return await self.publish(subject, body, msg_id=f"{msg_id}.{seq}", headers=headers, verify_in=verify_in)

    async def _publish(self, subject: str, body: bytes, headers: dict[str, str], deadline: float) -> dict[str, Any]:
        while True:
            try:
                return await self._attempt(subject, body, headers, min(ATTEMPT_S, deadline - time.monotonic()))
            except BrokerUnavailable:
                grace = deadline if self.is_connected else min(deadline, time.monotonic() + _DISCONNECTED_GRACE_S)
                if not await self._wait_connected(grace):
                    raise

    async def publish_first(self, stream: str, subject: str, message: BaseModel, *, msg_id: str) -> int:
        """Store the first and only message on a subject; of several writers exactly one succeeds.

        Raises WrongLastSequence for the other writers, BrokerUnavailable.
        """
        try:
            return await self.publish(subject, message, msg_id=msg_id, expect_last=0)
        except WrongLastSequence:
            # The broker checks the sequence before the message id. So the stored message may be our own first attempt,
            # of which the acknowledgement was lost.
            stored = await self.last(stream, subject)
            if stored is not None and stored.msg_id == msg_id:
                return stored.seq
            raise

    async def _attempt(self, subject: str, body: bytes, headers: dict[str, str], timeout_s: float) -> dict[str, Any]:
        ack = json.loads((await self.request(subject, body, headers=headers, timeout_s=timeout_s)).data)
        if "error" in ack:
            _raise_refusal(ack["error"])
        return dict(ack)

    async def _wait_connected(self, deadline: float) -> bool:
        """Wait before the next attempt until the broker is connected; return False if that misses the deadline."""
        left = deadline - time.monotonic() - _BETWEEN_ATTEMPTS_S
        if left <= 0:
            return False
        await asyncio.sleep(_BETWEEN_ATTEMPTS_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self.up.wait()
        return self.is_connected

    async def _read_request(self, subject: str, body: bytes = b"") -> Msg:
        return await self._retry_silence(lambda: self.request(subject, body))

    async def _retry_silence(self, read: Callable[[], Awaitable[T]]) -> T:
        """Try an idempotent read again if the broker does not reply: its disk may block it for seconds."""
        for _ in range(_READ_ATTEMPTS - 1):
            try:
                return await read()
            except BrokerUnavailable as error:
                if not (self.is_connected and isinstance(error.__cause__, TimeoutError)):
                    raise
        return await read()

    async def last(self, stream: str, subject: str) -> StoredMessage | None:
        """Return the newest message on one exact subject. Raises BrokerUnavailable."""
        reply = await self._read_request(subjects.api("DIRECT.GET", stream, subject))
        return (
            await self._confirm_absence(stream, {"last_by_subj": subject}, reply)
            if status_of(reply)
            else _parse_direct_reply(reply)
        )

    async def get(self, stream: str, seq: int) -> StoredMessage | None:
        """Return one message by its sequence. Raises BrokerUnavailable."""
        return await self._read_one(stream, {"seq": seq})

    async def first(self, stream: str, pattern: str, after: int = 0) -> StoredMessage | None:
        """Return the oldest message on a subject pattern after a sequence. Raises BrokerUnavailable."""
        return await self._read_one(stream, {"seq": after + 1, "next_by_subj": pattern})

    async def history(self, stream: str, pattern: str, after: int = 0) -> list[StoredMessage]:
        """Return all messages on a subject pattern after a sequence, oldest first. Raises BrokerUnavailable."""
        messages: list[StoredMessage] = []
        async for page in self.pages(stream, pattern, after):
            messages += page
        after = messages[-1].seq if messages else after
        while late := await self._read_leader(stream, {"seq": after + 1, "next_by_subj": pattern}):
            messages.append(late)
            after = late.seq
        return messages

    async def pages(self, stream: str, pattern: str, after: int = 0) -> AsyncGenerator[list[StoredMessage], None]:
        """Yield the messages as `history`, in lists of at most about 4 MiB. Raises BrokerUnavailable.

        For streams that are too large for one list; in a cluster the newest messages may be missing.
        """
        more = True
        while more:
            query = {"seq": after + 1, "next_by_subj": pattern, **_PAGE}
            found, more = await self._retry_silence(partial(self._read_batch, stream, query))
            if found:
                after = found[-1].seq
                yield found

    async def _read_one(self, stream: str, query: dict[str, Any]) -> StoredMessage | None:
        reply = await self._read_request(subjects.api("DIRECT.GET", stream), json.dumps(query).encode())
        return await self._confirm_absence(stream, query, reply) if status_of(reply) else _parse_direct_reply(reply)

    async def _confirm_absence(self, stream: str, query: dict[str, Any], reply: Msg) -> StoredMessage | None:
        if status_of(reply) == "503":  # no leader at the moment, which is not "nothing stored"
            raise BrokerUnavailable
        return await self._read_leader(stream, query)

    async def _read_leader(self, stream: str, query: dict[str, Any]) -> StoredMessage | None:
        """Read from the stream's leader: the replica that serves a direct get may be milliseconds behind."""
        if not self.is_clustered:
            return None
        answer = await self._manage(subjects.api("STREAM.MSG.GET", stream), query)
        if "message" in answer:
            return _parse_leader_reply(answer["message"])
        if answer["error"].get("err_code") == _NO_MESSAGE:
            return None
        raise BrokerUnavailable

    async def _read_batch(self, stream: str, query: dict[str, Any]) -> tuple[list[StoredMessage], bool]:
        """Read a batch by direct get; return the messages and whether more are stored."""
        self.require_connection()
        replies: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self.client.new_inbox()
        found: list[StoredMessage] = []
        with translate_errors():
            subscription = await self.client.subscribe(inbox, cb=enqueue_in(replies), pending_bytes_limit=-1)
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
                    found.append(_parse_direct_reply(reply))
            finally:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()

    async def delete(self, stream: str, seq: int) -> None:
        """Delete one message if it exists. Raises BrokerUnavailable."""
        await self._manage(subjects.api("STREAM.MSG.DELETE", stream), {"seq": seq})

    async def purge(self, stream: str, pattern: str, keep: int = 0) -> None:
        """Delete the messages on a subject pattern, but the newest `keep`. Raises BrokerUnavailable."""
        await self._manage(subjects.api("STREAM.PURGE", stream), {"filter": pattern, "keep": keep})

    async def emit_purge(self, stream: str, pattern: str) -> None:
        """Request the deletion of all messages on a subject pattern without waiting. Raises BrokerUnavailable."""
        await self.emit(subjects.api("STREAM.PURGE", stream), json.dumps({"filter": pattern}).encode())

    async def subjects_in(self, stream: str, pattern: str) -> list[str]:
        """Return the subjects of a pattern that have messages. Raises BrokerUnavailable."""
        listed: dict[str, int] = {}
        while True:
            page = await self.info(stream, {"subjects_filter": pattern, "offset": len(listed)})
            more = page["state"].get("subjects") or {}
            listed |= more
            if not more or len(listed) >= page.get("total", 0):
                return list(listed)

    async def count(self, stream: str, pattern: str) -> int:
        """Return the number of messages on a subject pattern. Raises BrokerUnavailable."""
        return sum(((await self.info(stream, {"subjects_filter": pattern}))["state"].get("subjects") or {}).values())

    async def creation_time(self, stream: str) -> datetime:
        """Return the time at which the stream was created or created again. Raises BrokerUnavailable."""
        return datetime.fromisoformat((await self.info(stream, {}))["created"])

    async def last_sequence(self, stream: str) -> int:
        """Return the sequence of the newest message that the stream has had. Raises BrokerUnavailable."""
        return int((await self.info(stream, {}))["state"]["last_seq"])

    async def info(self, stream: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return the broker's description of a stream. Raises BrokerUnavailable."""
        answer = await self._manage(subjects.api("STREAM.INFO", stream), query)
        if "error" in answer:
            raise BrokerUnavailable
        return answer

    async def _manage(self, subject: str, query: dict[str, Any]) -> dict[str, Any]:
        return dict(json.loads((await self._read_request(subject, json.dumps(query).encode())).data))

    @asynccontextmanager
    async def subscribe(self, subject: str, handle: Handle, group: str = "") -> AsyncIterator[None]:
        """Call `handle` for each message from now on; one subscriber of a `group` receives each.

        `seq` is 0 unless a stream republished the message. A message is logged if `handle` raises BadMessage.
        """

        async def receive(msg: Msg) -> None:
            seq = (msg.headers or {}).get("Nats-Sequence", "")
            stored = StoredMessage(int(seq) if _SEQUENCE.fullmatch(seq) else 0, msg.subject, msg.data)
            try:
                handle(stored)
            except BadMessage as error:
                log_malformed(stored.subject, stored.seq, error.message)

        with translate_errors():
            subscription = await self.client.subscribe(subject, queue=group, cb=receive)
        try:
            yield
        finally:
            with contextlib.suppress(nats.errors.Error, ConnectionError):
                await subscription.unsubscribe()


@asynccontextmanager
async def open_bus(settings: NatsSettings, name: str, *, wait: bool = True) -> AsyncIterator[Bus]:
    """Connect, and stay connected until the block ends.

    With `wait=False` the block starts at once; until the first connection every call raises BrokerUnavailable, and
    `wait_until_open` waits for it. Raises ConfigError when the broker will never accept us.
    """
    bus = Bus()
    bus.opening = asyncio.create_task(connect(bus, settings, name), name="bus.connect")
    try:
        if wait:
            await bus.wait_until_open()
        yield bus
    finally:
        bus.opening.cancel()
        await asyncio.gather(bus.opening, return_exceptions=True)  # `await` would swallow a cancellation of this task
        with contextlib.suppress(nats.errors.Error, ConnectionError, TimeoutError):
            if bus.client.is_connected:
                await bus.client.flush(timeout=1)
        with contextlib.suppress(nats.errors.Error, ConnectionError, TimeoutError):
            if bus.client.options:  # a client that never tried to connect cannot be closed
                await bus.client.close()


def _raise_refusal(error: dict[str, Any]) -> None:
    number = error.get("err_code")
    if number in _WRONG_LAST_SEQUENCE:
        raise WrongLastSequence
    if number == _STREAM_FULL:
        raise StreamFull
    raise BrokerUnavailable(f"The message broker refused: {error.get('description', 'no reason given')}.")


def _parse_direct_reply(msg: Msg) -> StoredMessage:
    headers = msg.headers or {}
    return StoredMessage(
        int(headers["Nats-Sequence"]), headers["Nats-Subject"], msg.data, headers.get("Nats-Msg-Id", "")
    )


def _parse_leader_reply(message: dict[str, Any]) -> StoredMessage:
    msg_id = re.search(rb"Nats-Msg-Id: *(\S+)", base64.b64decode(message.get("hdrs", "")))
    data = base64.b64decode(message.get("data", ""))
    return StoredMessage(message["seq"], message["subject"], data, msg_id[1].decode() if msg_id else "")
