"""A connection to the broker that reconnects by itself. Sends requests and unstored messages; raises our errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any

import nats.errors

from shared import metrics, subjects
from shared.client import HealingClient
from shared.errors import BrokerUnavailable, ConfigError, TooLarge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from nats.aio.msg import Msg

    from shared.settings import NatsSettings

log = logging.getLogger(__name__)
ATTEMPT_S = 2.0  # one publish or read; a healthy broker answers in a millisecond
_PING_S = 1.0
_CERTIFICATE_HAS_EXPIRED = 10  # of OpenSSL
_RENEW = (
    "The broker's certificate has expired; "
    "run `make credentials` or `make secrets` again, then send the broker a SIGHUP."
)
_NOBODY = "503"
_HEADER_EXTRA_BYTES = len("NATS/1.0\r\n\r\n")
_LINE_EXTRA_BYTES = len(": \r\n")


class Connection:
    """The base of `Bus`, opened by `connect`. For use in one event loop."""

    def __init__(self) -> None:
        self.client = HealingClient()
        self.up = asyncio.Event()
        self.opening: asyncio.Task[None] | None = None
        self.connects = 0  # how often the connection was established
        self._connected = asyncio.Event()  # replaced at each connect

    @property
    def is_connected(self) -> bool:
        """Return whether the connection is established now."""
        return bool(self.client.is_connected)

    @property
    def is_clustered(self) -> bool:
        """Return whether the broker is a member of a cluster."""
        return bool(self.client._server_info.get("cluster"))  # noqa: SLF001 (the client has no public name for it)

    async def wait_until_open(self) -> None:
        """Wait for the first connection. Raises ConfigError when the broker will never accept us."""
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
        metrics.CERTIFICATE_ENDS.set(self.client.certificate_end())

    async def request(
        self, subject: str, body: bytes = b"", *, timeout_s: float = ATTEMPT_S, headers: dict[str, str] | None = None
    ) -> Msg:
        """Return the reply to a request.

        Raises TooLarge, and BrokerUnavailable, also without a listener or after the timeout.
        """
        self.require_connection()
        self._require_fit(body, headers or {})
        # Not the client's own timeout: asyncio.wait_for loses a cancellation that comes with the reply (Python < 3.12).
        with translate_errors():
            async with asyncio.timeout(timeout_s):
                return await self.client.request(subject, body, timeout=None, headers=headers or None)  # type: ignore[arg-type]

    async def request_all(
        self, subject: str, body: bytes, *, timeout_s: float, more_s: float, headers: dict[str, str] | None = None
    ) -> list[Msg]:
        """Return the first reply to a request and those that come within `more_s` after it. Raises as `request`."""
        self.require_connection()
        self._require_fit(body, headers or {})
        replies: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self.client.new_inbox()
        with translate_errors():
            subscription = await self.client.subscribe(inbox, cb=enqueue_in(replies))
            try:
                await self.client.publish(subject, body, reply=inbox, headers=headers)
                async with asyncio.timeout(timeout_s):
                    found = [await replies.get()]
                if status_of(found[0]) == _NOBODY:
                    raise nats.errors.NoRespondersError
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(more_s):
                        while True:
                            found.append(await replies.get())
            finally:
                with contextlib.suppress(nats.errors.Error):
                    await subscription.unsubscribe()
        return found

    async def ping(self) -> None:
        """Wait for a pong. Raises BrokerUnavailable, also when the broker hangs behind an open connection."""
        self.require_connection()
        pong = asyncio.get_running_loop().create_future()
        with translate_errors():
            # Not `flush`: after the client's loops have ended it succeeds without a ping.
            await self.client._send_ping(pong)  # noqa: SLF001
        if not (await asyncio.wait({pong}, timeout=_PING_S))[0]:
            raise BrokerUnavailable

    async def emit(self, subject: str, body: bytes = b"") -> None:
        """Publish without storing, to the present subscribers. Raises TooLarge, BrokerUnavailable."""
        self.require_connection()
        self._require_fit(body, {})
        with translate_errors():
            await self.client.publish(subject, body)

    def require_connection(self) -> None:
        """Raise BrokerUnavailable if there is no connection."""
        if not self.client.is_connected:
            raise BrokerUnavailable

    def _require_fit(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Raise TooLarge for a message over the broker's limit.

        The client does not count the headers, and the broker closes the connection of a client that exceeds the limit.
        """
        header_bytes = sum(len(name) + len(value) + _LINE_EXTRA_BYTES for name, value in headers.items())
        size = len(body) + (header_bytes + _HEADER_EXTRA_BYTES if headers else 0)
        if size > (limit := self.client.max_payload):
            raise TooLarge(
                f"The request takes {size / 1024**2:.1f} MiB, but a service accepts {limit / 1024**2:g} MiB. "
                "Send less, for example fewer points."
            )


async def connect(connection: Connection, settings: NatsSettings, name: str) -> None:
    """Connect without a time limit; afterwards the client reconnects by itself.

    Raises ConfigError where waiting cannot help: a key or certificate is unusable, or the other side refuses it.
    """
    was_accepted = False
    logged: set[str] = set()  # since the connection was lost: the client makes four attempts a second

    async def on_error(error: Exception) -> None:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # asyncio.wait_for lost it: it came with this error (Python < 3.12)
            raise asyncio.CancelledError
        refusal = _refusal(error, settings)
        if refusal is not None and not was_accepted:
            raise ConfigError(refusal) from error  # ends the client's attempts
        _log_error(refusal, _reason(error, settings), logged, once=not connection.up.is_set())
        if refusal is not None:
            _renew_seed(connection.client, settings)

    async def on_disconnect() -> None:
        connection.up.clear()
        metrics.CONNECTED.set(0)
        if not connection.client.is_closed:
            log.warning("bus.disconnected")

    async def on_reconnect() -> None:
        logged.clear()
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
        reconnect_time_wait=0.25,  # type: ignore[arg-type]  # seconds; the annotation says int
        ping_interval=10,
        flusher_queue_size=0,  # no limit: with a limit, the ping that detects a hung broker would wait, too
        **_authentication(settings),
    )
    was_accepted = True
    logged.clear()
    connection.note_connect()
    log.info("bus.connected")


def _log_error(refusal: str | None, reason: str, logged: set[str], *, once: bool) -> None:
    """Log the refusal, or else the reason, unless it is in `logged`; with `once`, add it to `logged`."""
    text = refusal or reason
    if text not in logged:
        if refusal is None:
            log.warning("bus.error", extra={"reason": text})
        else:
            log.error("bus.refused", extra={"reason": text})
    if once:
        logged.add(text)


def _authentication(settings: NatsSettings) -> dict[str, Any]:
    """Return the client options that authenticate both sides. Raises ConfigError."""
    options: dict[str, Any] = {}
    if settings.tls:
        options["tls"] = _tls_context(settings.ca_file)
        options["tls_handshake_first"] = True  # otherwise an attacker could claim that the broker has no TLS
    if settings.nkey_file is not None:
        options["nkeys_seed_str"] = _read_seed(settings.nkey_file)
    return options


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ConfigError(f"NATS_CA_FILE: {ca_file} does not contain a certificate.") from error
    except OSError as error:
        raise ConfigError(f"NATS_CA_FILE: cannot read {ca_file}: {error.strerror}.") from error


def _read_seed(nkey_file: Path) -> str:
    import nkeys  # noqa: PLC0415 (loads cryptography, which an open broker does not need)

    try:
        seed = nkey_file.read_text(encoding="ascii").strip()
        nkeys.from_seed(bytearray(seed.encode())).wipe()
    except OSError as error:
        raise ConfigError(f"NATS_NKEY_FILE: cannot read {nkey_file}: {error.strerror}.") from error
    except (ValueError, nkeys.NkeysError) as error:
        raise ConfigError(f"NATS_NKEY_FILE: {nkey_file} does not contain a seed (SU...).") from error
    return seed


def _renew_seed(client: HealingClient, settings: NatsSettings) -> None:
    """Read the key again, because it may have been rotated; keep the present one if the file is unusable."""
    if settings.nkey_file is not None:
        try:
            client.use_seed(_read_seed(settings.nkey_file))
        except ConfigError as error:
            log.warning("bus.key-not-renewed", extra={"reason": error.message})


def _refusal(error: Exception, settings: NatsSettings) -> str | None:
    """Return the setting to correct if authentication failed or the certificate is not trusted, else None."""
    trusted = f"NATS_CA_FILE is {settings.ca_file}" if settings.ca_file else "NATS_CA_FILE is not set"
    if isinstance(error, ssl.SSLCertVerificationError):
        is_expired = error.verify_code == _CERTIFICATE_HAS_EXPIRED
        return _RENEW if is_expired else f"The broker's certificate is not trusted: {error.verify_message}; {trusted}."
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return f"The broker at NATS_URL does not use TLS; {trusted}."
    if "authorization violation" not in str(error).lower():
        return None
    if settings.nkey_file is not None:
        return f"The broker does not accept the key in {settings.nkey_file} (NATS_NKEY_FILE)."
    if settings.user is not None or "@" in settings.url:
        return "The broker does not accept the user and password (NATS_USER and NATS_PASSWORD, or in NATS_URL)."
    return "The broker requires a key; set NATS_NKEY_FILE."


def _reason(error: Exception, settings: NatsSettings) -> str:
    text = str(error)
    # A broker that waits for a TLS handshake sends no greeting, and closes the connection at about the same time as we.
    if "empty response" in text or (isinstance(error, TimeoutError) and not text):
        hint = "" if settings.tls else "; if it requires TLS, start NATS_URL with tls://"
        return f"The broker does not respond{hint}"
    return text or type(error).__name__


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Raise BrokerUnavailable from each error of the client: all mean that the broker cannot serve now."""
    try:
        yield
    except (TimeoutError, nats.errors.Error, ConnectionError) as error:
        raise BrokerUnavailable from error


def status_of(msg: Msg) -> str:
    """Return the status code of a broker's status message; empty for an ordinary message."""
    return (msg.headers or {}).get("Status", "")


def enqueue_in(queue: asyncio.Queue[Msg]) -> Callable[[Msg], Awaitable[None]]:
    """Return a subscription callback that fills a queue (cheaper than the client's own iterator)."""

    async def receive(msg: Msg) -> None:
        queue.put_nowait(msg)

    return receive
