"""One HTTP call to an endpoint: bounded in time and size, without redirects."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpcore

from services.jobmanager.webhooks.look_up import UnknownHost
from services.jobmanager.webhooks.network import ForbiddenAddress, GuardedBackend
from shared import VERSION
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from services.jobmanager.webhooks.look_up import Resolver
    from shared.webhooks import Network

_ANSWER_S = 1.0  # after its status
_IDLE_S = 15.0  # an idle connection is closed; the next call looks the name up again
_LONGEST_WAIT_S = 3600.0  # that an endpoint may request
_SUCCESS, _REDIRECT = range(200, 300), range(300, 400)
_REASONS: dict[type[Exception], str] = {
    ForbiddenAddress: "The host leads to an address that is not allowed.",
    UnknownHost: "The host has no address.",
    httpcore.ConnectError: "The connection failed.",
    httpcore.RemoteProtocolError: "The answer is not valid HTTP, or is too long.",
    httpcore.NetworkError: "The connection was lost.",
}
_FAILURES = UnknownHost, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, ssl.SSLError


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a call: a status, or else an error sentence that names no address."""

    duration_ms: int
    status: int | None = None
    error: str | None = None
    retry_after_s: float = 0.0
    """The wait that the endpoint asked for."""

    @property
    def is_success(self) -> bool:
        """Return whether the endpoint has accepted the message."""
        return self.error is None


class Caller:
    """Makes calls over a pool of connections. Opened by `open_caller`."""

    def __init__(self, pool: httpcore.AsyncConnectionPool, timeout_s: float) -> None:
        self._pool = pool
        self._timeout_s = timeout_s

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Outcome:
        """Post a body and return the outcome; no error is raised."""
        began = time.monotonic()
        status, retry_after_s = None, 0.0
        sent = {**headers, "Content-Type": "application/json", "User-Agent": f"ArtMancer/{VERSION}"}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._pool.stream("POST", url, headers=list(sent.items()), content=body) as response,
            ):
                status, retry_after_s = response.status, _retry_after_s(response.headers)
                await _drain(response)
            error = _describe_status(status)
        except TimeoutError:
            error = f"There was no answer within {self._timeout_s:g} s." if status is None else _describe_status(status)
        except httpcore.UnsupportedProtocol:
            error = "The URL is not valid."
        except _FAILURES as failure:
            error = _describe_failure(failure)
        except ValueError:  # h11 and the URL parser
            error = "The URL is not valid."
        took_ms = round((time.monotonic() - began) * 1000)
        return Outcome(took_ms, status, error, retry_after_s)


async def _drain(response: httpcore.Response) -> None:
    """Read a short answer, so that the connection can be used again; that of a longer one is closed."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            async for _ in response.aiter_stream():
                pass
    except (TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
        return  # the status counts


def _describe_status(status: int) -> str | None:
    if status in _SUCCESS:
        return None
    if status in _REDIRECT:
        return f"The endpoint answered {status}; redirects are not followed."
    return f"The endpoint answered {status}."


def _describe_failure(failure: Exception) -> str:
    if any(isinstance(each, ssl.SSLError) for each in _chain(failure)):
        return "The certificate is not valid, or the endpoint does not speak TLS."
    found = (sentence for kind, sentence in _REASONS.items() if isinstance(failure, kind))
    return next(found, "The call failed.")


def _chain(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__


def _retry_after_s(headers: Sequence[tuple[bytes, bytes]]) -> float:
    """Return the seconds in the header Retry-After; 0 without one. A date counts as none."""
    value = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return min(float(value), _LONGEST_WAIT_S) if value.isdigit() else 0.0


@asynccontextmanager
async def open_caller(
    resolver: Resolver, *, allowed: Sequence[Network], timeout_s: float, at_once: int, ca_file: Path | None
) -> AsyncIterator[Caller]:
    """Open the pool. Raises ConfigError for a file that has no certificate."""
    context = await asyncio.to_thread(httpcore.default_ssl_context)
    try:
        if ca_file is not None:
            context.load_verify_locations(ca_file)
    except OSError as error:
        raise ConfigError(f"JOBMANAGER_WEBHOOKS_CA_FILE: {ca_file} cannot be read as certificates.") from error
    async with httpcore.AsyncConnectionPool(
        ssl_context=context,
        max_connections=at_once,
        max_keepalive_connections=at_once // 4,
        keepalive_expiry=_IDLE_S,
        network_backend=GuardedBackend(resolver, allowed),
    ) as pool:
        yield Caller(pool, timeout_s)
