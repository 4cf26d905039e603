"""Gives each request an id, and logs each request that changes something or is refused.

A line has the owner, the route and the status. It never has a body, a prompt or a query, which can hold a signature.
Refusals beyond the refusal limit are not logged (`unlogged` in the scope): a flood would fill the disk.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import TYPE_CHECKING

from services.gateway.access.principal import ANONYMOUS
from shared import telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-Id"
VALID_ID = "[A-Za-z0-9._-]{1,128}"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED = frozenset({401, 403, 429})
_CLIENT_GONE = 499
_METHOD_LENGTH = 16  # a client can send any text as the method
log = logging.getLogger("audit")
log.setLevel(logging.INFO)  # whatever LOG_LEVEL is: it limits the log of the program, not the audit


class AuditMiddleware:
    """ASGI middleware around all others that respond. Log lines of other code have the request's id, too."""

    def __init__(self, app: ASGIApp, routes: Callable[[], Sequence[BaseRoute]], *, writes: bool) -> None:
        """`routes` returns those of the wrapped app; without `writes` requests get ids but no log lines."""
        self._app = app
        self._routes = routes
        self._writes = writes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and log its outcome."""
        started = time.perf_counter()
        request_id = _request_id(scope)
        status = _CLIENT_GONE

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (HEADER.lower().encode(), request_id.encode())]
                if self._writes:
                    headers += _private_headers(message["headers"])
                message = {**message, "headers": headers}
            await send(message)

        try:
            with telemetry.log_context(request_id=request_id):
                await self._app(scope, receive, send_with_headers)
        finally:
            if (
                self._writes
                and (scope["method"] not in _SAFE_METHODS or status in _REFUSED)
                and not scope.get("unlogged")
            ):
                self._write(scope, request_id, status, time.perf_counter() - started)

    def _write(self, scope: Scope, request_id: str, status: int, took_s: float) -> None:
        principal = scope.get("principal", ANONYMOUS)
        facts = {
            "request_id": request_id,
            "key_id": principal.key_id or None,
            "owner": principal.owner or None,
            "client": (scope.get("client") or (None,))[0],  # the only trace of a client without a key
            "method": scope["method"][:_METHOD_LENGTH],
            "route": self._template(scope),
            "status": status,
            "duration_ms": round(took_s * 1000, 1),
        }
        log.info("http.request", extra=facts)

    def _template(self, scope: Scope) -> str | None:
        """Return the route's path template, such as `/v1/jobs/{job_id}`; routing has not run for a refused request."""
        if (route := scope.get("route")) is None:
            route = next((known for known in self._routes() if known.matches(scope)[0].name == "FULL"), None)
        return getattr(route, "path", None)


def _private_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers that keep the response out of shared caches, some of which store by file name extension."""
    has_policy = any(name.lower() == b"cache-control" for name, _ in headers)
    return [(b"vary", b"Authorization"), *([] if has_policy else [(b"cache-control", b"private")])]


def _request_id(scope: Scope) -> str:
    sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return sent.decode() if re.fullmatch(VALID_ID.encode(), sent) else secrets.token_hex(16)
