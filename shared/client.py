"""The client of NATS, mended where it harms a service that runs for months. Written for nats-py 2.16.

Each method below takes the place of the client's own of the same name; the comment says what that one does wrong.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import nats.errors
from nats.aio.client import Client

if TYPE_CHECKING:
    from nats.aio.client import Srv

_CLOSE_S = 1.0


class HealingClient(Client):
    """The client, but it never gives up, and what hangs or comes too late does not stop it."""

    def use_seed(self, seed: str) -> None:
        """Sign with this key from the next connection on."""
        self._nkeys_seed_str = seed
        self._setup_nkeys_connect()

    async def _process_err(self, err_msg: str) -> None:
        # Closes for good on an error by which the broker ends a connection.
        if "permissions violation" in err_msg:  # which ends nothing
            await super()._process_err(err_msg)
            return
        error = nats.errors.Error(f"nats: {err_msg}")
        await self._error_cb(error)
        await self._process_op_err(error)

    async def _close(self, status: int, do_cbs: bool = True) -> None:  # noqa: FBT001, FBT002 (as the client has it)
        # Waits for the end of its attempts to reconnect and of the connection, whose TLS handshake may have failed: of
        # that asyncio tells nobody.
        attempts = self._reconnection_task
        while attempts is not None and attempts is not asyncio.current_task() and not attempts.done():
            attempts.cancel()  # its wait_for may lose one, see `Connection.request`
            await asyncio.wait({attempts}, timeout=0.1)
        try:
            async with asyncio.timeout(_CLOSE_S):
                await super()._close(status, do_cbs)
        except TimeoutError:
            self._status = status
            self._hang_up()
            for subscription in self._subs.values():
                subscription._stop_processing()  # noqa: SLF001

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        # Overtakes what is still to be written, so that the answer proves nothing: a subscription that ends would miss
        # what comes before the broker has heard of that.
        if self.is_connected and self._pending:
            self._transport.writelines(self._pending)  # type: ignore[union-attr] # there is one while it is connected
            self._pending, self._pending_data_size = [], 0
        await super()._send_ping(future)

    async def _process_pong(self) -> None:
        # Answers also a ping whose asker has given up, and its read loop dies of that.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _flush_pending(self, force_flush: bool = False) -> Any:  # noqa: FBT001, FBT002
        # Swallows the cancel of a time limit, and then a request waits for its answer without one.
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        flushed = await super()._flush_pending(force_flush)
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
        return flushed

    async def _read_loop(self) -> None:
        # Ends at what it cannot read, and the connection is deaf until three pings have remained unanswered.
        await super()._read_loop()
        task = asyncio.current_task()
        if self.is_connected and self._reading_task is task and not (task and task.cancelling()):
            await self._process_op_err(nats.errors.ProtocolError())

    async def _attempt_reconnect(self) -> None:
        # Waits until a broker that hangs has taken leave: for half a minute with TLS, else for as long as it hangs.
        self._hang_up()
        await super()._attempt_reconnect()

    async def _connect_to_server(self, s: Srv) -> None:
        # Forgets the connection to a broker that would not have us, and the tasks of one that then said nothing.
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None:
                task.cancel()
        self._hang_up()
        await super()._connect_to_server(s)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002
        # Learns the servers of a cluster and never forgets one: each pod that ever was would be tried for two seconds.
        if listed := info.get("connect_urls"):
            self._server_pool = [
                each
                for each in self._server_pool
                if not each.discovered or each is self._current_server or each.uri.netloc in listed
            ]
        await super()._process_info(info, initial_connection)

    def _hang_up(self) -> None:
        writer: asyncio.StreamWriter | None = getattr(self._transport, "_io_writer", None)
        if writer is not None and not writer.transport.is_closing():  # some Pythons cannot abort TLS that is closed
            writer.transport.abort()
