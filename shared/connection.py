"""A connection to the broker that heals itself: request and reply, words to whoever listens, errors in our terms."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any

import nats.errors
from nats.aio.client import Client

from shared.errors import ArtMancerError, BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from nats.aio.msg import Msg

    from shared.settings import NatsSettings

log = logging.getLogger(__name__)
ATTEMPT_S = 2.0  # one publish or read; a healthy broker answers in a millisecond
_PING_S = 1.0


class Connection:
    """What a `Bus` stands on; `connect` brings it up. Safe for one event loop."""

    def __init__(self) -> None:
        self.client = Client()
        self.up = asyncio.Event()
        self._reconnected: list[Callable[[], Awaitable[None]]] = []

    @property
    def connected(self) -> bool:
        """Whether the broker answers at the moment."""
        return bool(self.client.is_connected)

    @property
    def clustered(self) -> bool:
        """Whether the broker is one of several, each with its own copies."""
        return bool(self.client._server_info.get("cluster"))  # noqa: SLF001 (the client tells nobody)

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

    async def request(
        self, subject: str, body: bytes = b"", *, timeout_s: float = ATTEMPT_S, headers: dict[str, str] | None = None
    ) -> Msg:
        """Send and return the one reply. Raises BrokerUnavailable, also when nobody listens or replies in time."""
        self.require_connection()
        # The client has asyncio.wait_for as its limit: until Python 3.12 it loses a cancel that comes with the reply.
        with translated():
            async with asyncio.timeout(timeout_s):
                return await self.client.request(subject, body, timeout=None, headers=headers or None)  # type: ignore[arg-type]

    async def ping(self) -> None:
        """Have the broker answer. Raises BrokerUnavailable, also when it hangs behind an open connection."""
        self.require_connection()
        pong = asyncio.get_running_loop().create_future()
        with translated():
            # Not `flush`: when that gives up and the answer comes late, the client's read loop dies of it.
            await self.client._send_ping(pong)  # noqa: SLF001
        if not (await asyncio.wait({pong}, timeout=_PING_S))[0]:
            raise BrokerUnavailable

    async def emit(self, subject: str, body: bytes = b"") -> None:
        """Send to whoever listens now. Raises BrokerUnavailable."""
        self.require_connection()
        with translated():
            await self.client.publish(subject, body)

    def require_connection(self) -> None:
        """Raise BrokerUnavailable at once where waiting would not help."""
        if not self.client.is_connected:
            raise BrokerUnavailable


async def connect(connection: Connection, settings: NatsSettings, name: str) -> None:
    """Connect, however long that takes; from then on the connection heals itself."""

    async def on_error(error: Exception) -> None:
        log.warning("bus.error", extra={"reason": str(error) or type(error).__name__})

    async def on_disconnect() -> None:
        connection.up.clear()
        if not connection.client.is_closed:
            log.warning("bus.disconnected")

    async def on_reconnect() -> None:
        connection.up.set()
        log.info("bus.reconnected")
        await connection.reconnected()

    options: dict[str, Any] = {}
    if settings.ca_file is not None:
        options["tls"] = ssl.create_default_context(cafile=str(settings.ca_file))
    if settings.nkey_file is not None:
        options["nkeys_seed"] = str(settings.nkey_file)
    await connection.client.connect(
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
    connection.up.set()
    log.info("bus.connected")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what nats raises into our errors: all of it means that the broker cannot serve now."""
    try:
        yield
    except (TimeoutError, nats.errors.Error, ConnectionError) as error:
        raise BrokerUnavailable from error


def status_of(msg: Msg) -> str:
    """Return the status that the broker puts in place of a message, or nothing."""
    return (msg.headers or {}).get("Status", "")


def into(queue: asyncio.Queue[Msg]) -> Callable[[Msg], Awaitable[None]]:
    """Make a subscription callback that fills a queue (cheaper than the client's own iterator)."""

    async def receive(msg: Msg) -> None:
        queue.put_nowait(msg)

    return receive
