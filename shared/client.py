"""The NATS client with fixes for services that run for months. Overrides private methods of nats-py 2.16.

The comment in each method describes the fault of the method that it overrides.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import nats.aio.client
import nats.errors
from nats.aio.client import Client

if TYPE_CHECKING:
    from nats.aio.client import Srv
    from nats.aio.msg import Msg

_CLOSE_S = 1.0
# The client reads 32 KiB at a time, and its socket pauses after two of them: 16 steps for each chunk of a picture, and
# a fifth of the processor time of a download.
nats.aio.client.DEFAULT_BUFFER_SIZE = 256 * 1024


class HealingClient(Client):
    """A client that reconnects forever and does not stop at a broker that hangs or replies too late."""

    def __init__(self) -> None:
        super().__init__()
        self._replies = b""  # the beginning of the subjects of all replies
        self._requests = 0
        self._sends_soon = False
        self._asked: dict[str, asyncio.Future[Msg]] = {}

    def use_seed(self, seed: str) -> None:
        """Use this key from the next connection on."""
        self._nkeys_seed_str = seed
        self._setup_nkeys_connect()

    def certificate_end(self) -> float:
        """Return the end of the validity of the broker's certificate in Unix seconds, 0 without TLS."""
        writer = self._writer
        certificate = None if writer is None else writer.get_extra_info("peercert")
        return ssl.cert_time_to_seconds(certificate["notAfter"]) if certificate else 0.0

    @property
    def _writer(self) -> asyncio.StreamWriter | None:
        return getattr(self._transport, "_io_writer", None)

    async def _request_new_style(
        self,
        subject: str,
        payload: bytes,
        timeout: float | None = 1,  # noqa: ASYNC109 (as the client has it)
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        # Reads random bytes for each request, and wakes a task for each reply: see `_process_msg`.
        if self.is_draining_pubs:
            raise nats.errors.ConnectionDrainingError
        if not self._replies:
            self._replies = f"{self.new_inbox()}.".encode()
            await self.subscribe(f"{self._replies.decode()}*")
        self._requests += 1
        token = str(self._requests)
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._asked[token] = future
        try:
            await self.publish(subject, payload, f"{self._replies.decode()}{token}", headers)
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise nats.errors.TimeoutError from None
        finally:
            del self._asked[token]

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        # Puts each reply into a queue, and a task takes it from there: a quarter of the CPU time of a request.
        if not self._replies or not subject.startswith(self._replies):
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        future = self._asked.get(subject[len(self._replies) :].decode())
        if future is not None and not future.done():
            future.set_result(self._build_message(sid, subject, reply, data, await self._process_headers(headers)))

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        # Decodes each name and each value by itself, and looks at each character of a name: three times the CPU time.
        parsed = (line.partition(":") for line in raw.decode("utf-8", "replace").split("\r\n"))
        named = ((name.strip(), value) for name, colon, value in parsed if colon)
        return {name: value.strip() for name, value in named if name.isascii() and len(name.split()) == 1}

    async def _process_err(self, err_msg: str) -> None:
        # Closes the client forever when the broker ends the connection with an error.
        if "permissions violation" in err_msg:  # does not end the connection
            await super()._process_err(err_msg)
            return
        error = nats.errors.Error(f"nats: {err_msg}")
        await self._error_cb(error)
        await self._process_op_err(error)

    async def _close(self, status: int, do_cbs: bool = True) -> None:  # noqa: FBT001, FBT002 (as the client has it)
        # Waits without a limit for its reconnect attempts and for the transport to close. After a failed TLS handshake
        # asyncio never reports that it closed.
        attempts = self._reconnection_task
        while attempts is not None and attempts is not asyncio.current_task() and not attempts.done():
            attempts.cancel()  # its wait_for may lose one, see `Connection.request`
            await asyncio.wait({attempts}, timeout=0.1)
        try:
            async with asyncio.timeout(_CLOSE_S):
                await super()._close(status, do_cbs)
        except asyncio.CancelledError:
            self._disconnect()  # the client counts as closed from now on, so no later call closes the socket
            raise
        except TimeoutError:
            self._status = status
            self._disconnect()
            for subscription in self._subs.values():
                subscription._stop_processing()  # noqa: SLF001

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        # Sends the ping before the data in the write buffer, so the pong proves nothing. A subscription that drains
        # would lose the messages that arrive before the broker has received the unsubscribe.
        self._send_pending()
        await super()._send_ping(future)

    async def _process_pong(self) -> None:
        # Sets the result of a ping that was cancelled; the exception ends the read loop.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _flush_pending(self, force_flush: bool = False) -> Any:  # noqa: FBT001, FBT002
        # Wakes a task for each message. While the socket is free, all messages of one turn of the loop leave at its end
        # without a task.
        if not force_flush and self.is_connected and not self._is_socket_full():
            if not self._sends_soon:
                self._sends_soon = True
                asyncio.get_running_loop().call_soon(self._send_pending)
            return None
        # Ignores a cancellation by a timeout; the request then waits for its reply without a limit.
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        flushed = await super()._flush_pending(force_flush)
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
        return flushed

    def _is_socket_full(self) -> bool:
        writer = self._writer
        return writer is None or bool(writer.transport.get_write_buffer_size())

    def _send_pending(self) -> None:
        self._sends_soon = False
        if self.is_connected and self._pending:
            self._transport.writelines(self._pending)  # type: ignore[union-attr] # set while connected
            self._pending, self._pending_data_size = [], 0

    async def _read_loop(self) -> None:
        # Ends at data that it cannot parse. The connection then receives nothing until three pings have failed.
        await super()._read_loop()
        task = asyncio.current_task()
        if self.is_connected and self._reading_task is task and not (task and task.cancelling()):
            await self._process_op_err(nats.errors.ProtocolError())

    async def _attempt_reconnect(self) -> None:
        # Waits for a hung broker to close the connection: 30 s with TLS, without a limit otherwise.
        self._disconnect()
        await super()._attempt_reconnect()

    async def _connect_to_server(self, s: Srv) -> None:
        # Leaks the socket if the broker refused the client, and the tasks if the broker stopped responding.
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None:
                task.cancel()
        self._disconnect()
        await super()._connect_to_server(s)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002
        # Adds the servers of a cluster and never removes one: the client would try each deleted pod for two seconds.
        if listed := info.get("connect_urls"):
            self._server_pool = [
                each
                for each in self._server_pool
                if not each.discovered or each is self._current_server or each.uri.netloc in listed
            ]
        await super()._process_info(info, initial_connection)

    def _disconnect(self) -> None:
        # Not the TLS transport: it waits 30 s for the broker's close, and some Python versions cannot abort it by then.
        writer: asyncio.StreamWriter | None = getattr(self._transport, "_bare_io_writer", None)
        if writer is not None:
            writer.transport.abort()
