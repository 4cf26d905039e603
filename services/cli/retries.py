"""Retries: decides which failures to retry, and how long to wait before the next try."""

from __future__ import annotations

import logging
import random
import ssl
import time

import httpx

from .errors import ApiError, ArtMancerError, Unreachable

_RETRIED = frozenset({429, 502, 503, 504})
_FIRST_S, _LONGEST_S = 0.25, 8.0
_ERROR = 400
_SENTENCES = {
    401: "The server needs an API key, and this one is missing or not valid.",
    403: "This API key may not do that: it lacks a scope.",
}
log = logging.getLogger("artmancer")


class Retries:
    """The retries of one request. Every request of /v1 may be sent again: jobs carry an idempotency key."""

    def __init__(self, retry_s: float) -> None:
        """Give up `retry_s` seconds after the first failure."""
        self._retry_s = retry_s
        self._pause_s = _FIRST_S
        self._ends_at: float | None = None

    def after_error(self, error: httpx.TransportError) -> float:
        """Return the seconds to wait after a failed connection. Raises Unreachable when it is time to give up."""
        failure = Unreachable(f"The server does not answer: {str(error).rstrip('.') or type(error).__name__}.")
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError) or _has_no_tls(error):
            raise failure
        return self._wait(None, failure)

    def after_response(self, response: httpx.Response, accepted: frozenset[int]) -> float | None:
        """Return the seconds to wait before another try; None if the response is good. Raises ApiError."""
        if response.status_code < _ERROR or response.status_code in accepted:
            return None
        error = error_of(response)
        if response.status_code not in _RETRIED:
            raise error
        return self._wait(response.headers.get("Retry-After"), error)

    def _wait(self, asked: str | None, error: ArtMancerError) -> float:
        now = time.monotonic()
        if self._ends_at is None:
            self._ends_at = now + self._retry_s
            if self._retry_s > 0:
                log.warning("%s Trying again for %g s.", error, self._retry_s)
        wait_s = float(asked) if asked and asked.isdigit() else self._pause_s * random.uniform(0.5, 1)  # noqa: S311
        self._pause_s = min(2 * self._pause_s, _LONGEST_S)
        if now + wait_s > self._ends_at:
            raise error
        return wait_s


def _has_no_tls(error: BaseException | None) -> bool:
    """Return whether the certificate or the protocol of the server is wrong: a retry cannot help."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def error_of(response: httpx.Response) -> ApiError:
    """Return the error that a response describes (RFC 9457), also for a response of a proxy."""
    try:
        problem = response.json()
        return ApiError(response.status_code, str(problem["code"]), str(problem["detail"]))
    except (ValueError, KeyError, TypeError):
        status = response.status_code  # the answer to HEAD has no body
        return ApiError(status, "http_error", _SENTENCES.get(status) or f"The server answered with status {status}.")
