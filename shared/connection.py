"""A connection to the broker that heals itself: request and reply, words to whoever listens, errors in our terms."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any

import nats.errors

from shared import metrics, subjects
from shared.client import HealingClient
from shared.errors import BrokerUnavailable, ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from nats.aio.msg import Msg

    from shared.settings import NatsSettings

log = logging.getLogger(__name__)
ATTEMPT_S = 2.0  # one publish or read; a healthy broker answers in a millisecond
_PING_S = 1.0


class Connection:
    """What a `Bus` stands on; `connect` brings it up. Safe for one event loop."""

    def __init__(self) -> None:
        self.client = HealingClient()
        self.up = asyncio.Event()
        self.opening: asyncio.Task[None] | None = None
        self.connects = 0  # how often the connection came up
        self._connected = asyncio.Event()  # replaced at each connect

    @property
    def is_connected(self) -> bool:
        """Whether the broker answers at the moment."""
        return bool(self.client.is_connected)

    @property
    def is_clustered(self) -> bool:
        """Whether the broker is one of several, each with its own copies."""
        return bool(self.client._server_info.get("cluster"))  # noqa: SLF001 (the client tells nobody)

    async def wait_until_open(self) -> None:
        """Wait until the broker has let us in for the first time. Raises ConfigError when it never will."""
        if self.opening is not None:
            await asyncio.shield(self.opening)

    async def next_connect(self, after: int) -> int:
        """Wait until the connection came up more than `after` times; return `connects`.

        Core subscriptions miss all messages that are sent while the connection is away, so a subscriber reads again
        after each reconnect.
        """
        while self.connects <= after:
            await self._connected.wait()
        return self.connects

    def note_connect(self) -> None:
        """Mark the connection as up and end the waits of `next_connect`."""
        self.connects += 1
        self.up.set()
        self._connected.set()
        self._connected = asyncio.Event()
        metrics.CONNECTED.set(1)

    async def request(
        self, subject: str, body: bytes = b"", *, timeout_s: float = ATTEMPT_S, headers: dict[str, str] | None = None
    ) -> Msg:
        """Send and return the one reply. Raises BrokerUnavailable, also when nobody listens or replies in time."""
        self.require_connection()
        # The client has asyncio.wait_for as its limit: until Python 3.12 it loses a cancel that comes with the reply.
        with translate_errors():
            async with asyncio.timeout(timeout_s):
                return await self.client.request(subject, body, timeout=None, headers=headers or None)  # type: ignore[arg-type]

    async def ping(self) -> None:
        """Have the broker answer. Raises BrokerUnavailable, also when it hangs behind an open connection."""
        self.require_connection()
        pong = asyncio.get_running_loop().create_future()
        with translate_errors():
            # Not `flush`: where the client's loops have ended that says yes, and has not asked.
            await self.client._send_ping(pong)  # noqa: SLF001
        if not (await asyncio.wait({pong}, timeout=_PING_S))[0]:
            raise BrokerUnavailable

    async def emit(self, subject: str, body: bytes = b"") -> None:
        """Send to whoever listens now. Raises BrokerUnavailable."""
        self.require_connection()
        with translate_errors():
            await self.client.publish(subject, body)

    def require_connection(self) -> None:
        """Raise BrokerUnavailable at once where waiting would not help."""
        if not self.client.is_connected:
            raise BrokerUnavailable


async def connect(connection: Connection, settings: NatsSettings, name: str) -> None:
    """Connect, however long that takes; from then on the connection heals itself.

    Raises ConfigError where waiting would not help: a key or a certificate that cannot be used, or is not accepted.
    """
    admitted = False
    told: set[str] = set()  # since the connection is away: there are four attempts a second

    async def on_error(error: Exception) -> None:
        refusal = _refusal(error, settings)
        if refusal is not None and not admitted:
            raise ConfigError(refusal) from error  # out of the client's endless attempts
        _tell(refusal, _reason(error, settings), told, away=not connection.up.is_set())
        if refusal is not None:
            _renew_seed(connection.client, settings)

    async def on_disconnect() -> None:
        connection.up.clear()
        metrics.CONNECTED.set(0)
        if not connection.client.is_closed:
            log.warning("bus.disconnected")

    async def on_reconnect() -> None:
        told.clear()
        connection.note_connect()
        metrics.RECONNECTS.inc()
        log.info("bus.reconnected")

    await connection.client.connect(
        servers=settings.url.split(","),
        name=name,
        user=settings.user,
        password=settings.password,
        inbox_prefix=settings.inbox_prefix or subjects.inbox_prefix(name),
        error_cb=on_error,
        disconnected_cb=on_disconnect,
        reconnected_cb=on_reconnect,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.25,  # type: ignore[arg-type]  # seconds; the annotation is too narrow
        ping_interval=10,
        flusher_queue_size=0,  # without a limit: with one, the very ping waits that would find a hung broker
        **_credentials(settings),
    )
    admitted = True
    told.clear()
    connection.note_connect()
    log.info("bus.connected")


def _tell(refusal: str | None, reason: str, told: set[str], *, away: bool) -> None:
    """Log a refusal, or else another reason, while the connection is away each thing once."""
    said = refusal or reason
    if said not in told:
        if refusal is None:
            log.warning("bus.error", extra={"reason": said})
        else:
            log.error("bus.refused", extra={"reason": said})
    if away:
        told.add(said)


def _credentials(settings: NatsSettings) -> dict[str, Any]:
    """By what we know the broker, and it us. Raises ConfigError."""
    options: dict[str, Any] = {}
    if settings.tls:
        options["tls"] = _trust(settings.ca_file)
        options["tls_handshake_first"] = True  # or whoever stands in between could say that the broker needs no TLS
    if settings.nkey_file is not None:
        options["nkeys_seed_str"] = _seed(settings.nkey_file)
    return options


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ConfigError(f"The file {ca_file}, which NATS_CA_FILE names, holds no certificate.") from error
    except OSError as error:
        raise ConfigError(f"NATS_CA_FILE names {ca_file}, which cannot be read: {error.strerror}.") from error


def _seed(nkey_file: Path) -> str:
    import nkeys  # noqa: PLC0415 (a laptop has no keys and need not load the cryptography for them)

    try:
        seed = nkey_file.read_text(encoding="ascii").strip()
        nkeys.from_seed(bytearray(seed.encode())).wipe()
    except OSError as error:
        raise ConfigError(f"NATS_NKEY_FILE names {nkey_file}, which cannot be read: {error.strerror}.") from error
    except (ValueError, nkeys.NkeysError) as error:
        raise ConfigError(f"The file {nkey_file}, which NATS_NKEY_FILE names, holds no key (SU...).") from error
    return seed


def _renew_seed(client: HealingClient, settings: NatsSettings) -> None:
    """Read the key again: it may have been rotated since. The one that is there stays if that cannot be done."""
    if settings.nkey_file is not None:
        try:
            client.use_seed(_seed(settings.nkey_file))
        except ConfigError as error:
            log.warning("bus.key-not-renewed", extra={"reason": error.message})


def _refusal(error: Exception, settings: NatsSettings) -> str | None:
    """Tell which setting is to blame where the broker, or its certificate, is not one for us."""
    trusted = f"NATS_CA_FILE is {settings.ca_file}" if settings.ca_file else "NATS_CA_FILE is not set"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The broker's certificate is not to be trusted: {error.verify_message}; {trusted}."
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return f"The broker at NATS_URL does not speak TLS; {trusted}."
    if "authorization violation" not in str(error).lower():
        return None
    if settings.nkey_file is not None:
        return f"The broker does not know the key in {settings.nkey_file}, which NATS_NKEY_FILE names."
    if settings.user is not None or "@" in settings.url:
        return "The broker does not accept the user and password in NATS_USER and NATS_PASSWORD, or in NATS_URL."
    return "The broker lets in nobody without a key; set NATS_NKEY_FILE."


def _reason(error: Exception, settings: NatsSettings) -> str:
    said = str(error)
    # A broker that waits for TLS greets nobody, and hangs up on us as soon as we do on it.
    if "empty response" in said or (isinstance(error, TimeoutError) and not said):
        return "The broker says nothing" + ("" if settings.tls else "; if it wants TLS, begin NATS_URL with tls://")
    return said or type(error).__name__


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
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
