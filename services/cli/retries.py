"""Retries: which failures are worth another try, and how long to wait before it."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from .errors import ApiError, ArtMancerError, Unreachable

if TYPE_CHECKING:
    import httpx

_RETRIED = frozenset({429, 502, 503, 504})
_FIRST_S, _LONGEST_S = 0.25, 8.0
_ERROR = 400


class Retries:
    """The retries of one request. Every request of /v1 may be sent again: jobs carry an idempotency key."""

    def __init__(self, patience_s: float) -> None:
        """Give up `patience_s` seconds after the first failure."""
        self._patience_s = patience_s
        self._pause_s = _FIRST_S
        self._ends_at: float | None = None

    def after_error(self, error: httpx.TransportError) -> float:
        """Return the seconds to wait after a failed connection. Raises Unreachable when it is time to give up."""
        return self._wait(None, Unreachable(f"The server does not answer: {str(error) or type(error).__name__}."))

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
            self._ends_at = now + self._patience_s
        wait_s = float(asked) if asked and asked.isdigit() else self._pause_s * random.uniform(0.5, 1)  # noqa: S311
        self._pause_s = min(2 * self._pause_s, _LONGEST_S)
        if now + wait_s > self._ends_at:
            raise error
        return wait_s


def error_of(response: httpx.Response) -> ApiError:
    """Return the error that a response describes (RFC 9457), also for a response of a proxy."""
    try:
        problem = response.json()
        return ApiError(response.status_code, str(problem["code"]), str(problem["detail"]))
    except (ValueError, KeyError, TypeError):
        return ApiError(response.status_code, "http_error", f"The server answered with status {response.status_code}.")
