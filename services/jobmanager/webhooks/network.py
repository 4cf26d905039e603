"""Opens connections to endpoints: only to allowed addresses, to the address that was checked, for short answers.

A name could lead to another address at a second look-up (DNS rebinding), so each connection has one look-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpcore

from shared.webhooks import is_allowed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence
    from typing import Any

    from services.jobmanager.webhooks.look_up import Resolver
    from shared.webhooks import Network

ANSWER_BYTES = 16 * 1024
_READ_BYTES = 4 * 1024
"""At once: thousands of tiny headers or chunks are parsed without a pause, and all services of this process wait."""


class ForbiddenAddress(httpcore.ConnectError):
    """The host leads to an address that endpoints may not have."""


class GuardedBackend(httpcore.AnyIOBackend):
    """The network of the HTTP client; the name in the certificate is still that of the URL."""

    def __init__(self, resolver: Resolver, allowed: Sequence[Network]) -> None:
        """Allow, besides public addresses, those of the networks in `allowed`."""
        super().__init__()
        self._resolver = resolver
        self._allowed = allowed

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the client's interface)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers. Raises ForbiddenAddress if one of them is not allowed."""
        addresses = await self._resolver.resolve(host, port)
        if not all(is_allowed(address, self._allowed) for address in addresses):
            raise ForbiddenAddress
        for address in addresses[:-1]:
            try:
                found = await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
            return ShortAnswers(found)
        return ShortAnswers(await super().connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options))

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 (the client's interface)
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: an endpoint is never a file."""
        del path, timeout, socket_options
        raise ForbiddenAddress


class ShortAnswers(httpcore.AsyncNetworkStream):
    """A connection that reads at most ANSWER_BYTES after a request, in small parts.

    The client itself has no limit: informational answers without end, or a body of chunks with one byte each, would
    take all time of the process.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = ANSWER_BYTES

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 (as above)
        """Read a part of the answer. Raises RemoteProtocolError if it is too long."""
        if self._left <= 0:
            raise httpcore.RemoteProtocolError("The answer is too long.")
        part = await self._stream.read(min(max_bytes, _READ_BYTES), timeout)
        self._left -= len(part)
        return part

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 (as above)
        """Write a part of a request; its answer may be as long again."""
        self._left = ANSWER_BYTES
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (as above)
    ) -> httpcore.AsyncNetworkStream:
        """Return this connection with TLS."""
        return ShortAnswers(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return the options that the client sets on the connection itself."""
        return self._stream.get_extra_info(info)
