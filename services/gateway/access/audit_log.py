"""An id for every request, and a line in the log for each that changes something or is refused.

Who is refused without a pause is not written down each time (`unlogged`): a flood would fill the disk with itself.
The line tells who, what and how it ended; never what was sent: no body, no prompt, no query, in which a signature is.
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
_SANE = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED = frozenset({401, 403, 429})
_GONE = 499
_METHOD_LENGTH = 16  # anybody may call a method as they like
log = logging.getLogger("audit")
log.setLevel(logging.INFO)  # LOG_LEVEL says how much is told of the program, not whether it is told who did what


class AuditMiddleware:
    """ASGI middleware around all others that answer. The id is in whatever is logged meanwhile, too."""

    def __init__(self, app: ASGIApp, routes: Callable[[], Sequence[BaseRoute]], *, writes: bool) -> None:
        """`routes` are those of the app behind; without `writes` there are ids only."""
        self._app = app
        self._routes = routes
        self._writes = writes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note how it went."""
        began = time.perf_counter()
        request_id = _id_of(scope)
        status = _GONE

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (HEADER.lower().encode(), request_id.encode())]
                if self._writes:
                    headers += _for_one_caller(message["headers"])
                message = {**message, "headers": headers}
            await send(message)

        try:
            with telemetry.log_context(request_id=request_id):
                await self._app(scope, receive, answer)
        finally:
            if self._writes and (scope["method"] not in _LOOKING or status in _REFUSED) and not scope.get("unlogged"):
                self._write(scope, request_id, status, time.perf_counter() - began)

    def _write(self, scope: Scope, request_id: str, status: int, took_s: float) -> None:
        principal = scope.get("principal", ANONYMOUS)
        facts = {
            "request_id": request_id,
            "key_id": principal.key_id or None,
            "owner": principal.owner or None,
            "client": (scope.get("client") or (None,))[0],  # all that is known of who has no key
            "method": scope["method"][:_METHOD_LENGTH],
            "route": self._template(scope),
            "status": status,
            "duration_ms": round(took_s * 1000, 1),
        }
        log.info("http.request", extra=facts)

    def _template(self, scope: Scope) -> str | None:
        """Return the address as the routes write it, `/v1/jobs/{job_id}`; a refused request has not met them."""
        if (route := scope.get("route")) is None:
            route = next((one for one in self._routes() if one.matches(scope)[0].name == "FULL"), None)
        return getattr(route, "path", None)


def _for_one_caller(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return what keeps a cache from giving one caller's answer to another; some go by the ending of the address."""
    kept = any(name.lower() == b"cache-control" for name, _ in headers)
    return [(b"vary", b"Authorization"), *([] if kept else [(b"cache-control", b"private")])]


def _id_of(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _SANE.fullmatch(given) else secrets.token_hex(16)
