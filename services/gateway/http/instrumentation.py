"""Traces and measures every request."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind, Status, StatusCode

from shared import tracing

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

STREAM = "artmancer.stream"
"""The key of the scope under which a started event stream waits for the outermost middleware, which runs it."""
_CONTEXT_HEADERS = {b"traceparent", b"tracestate"}
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_SERVER_ERROR = 500


@dataclass(slots=True)
class Exchange:
    """A request and its response so far."""

    method: str
    route: str = "unmatched"
    status: int = _SERVER_ERROR  # uvicorn's response for an app that raises
    first_byte_s: float = 0.0
    streams: bool = False
    ended: bool = False


class InstrumentationMiddleware:
    """Outermost ASGI middleware. It continues the trace of `traceparent` or starts one, and returns `traceresponse`.

    `report` gets each exchange at the start and at the end of its response. It can be set late, because the metrics
    are imported while the first requests wait.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.report: Callable[[Exchange], None] = lambda _: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and run the event stream that it may have opened."""
        exchange = Exchange(scope["method"] if scope["method"] in _METHODS else "other")
        try:
            await self._respond(exchange, scope, receive, send)
            if STREAM in scope:
                await scope[STREAM].run(send)
        finally:
            if STREAM in scope:
                scope[STREAM].close()
            exchange.ended = True
            self.report(exchange)

    async def _respond(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on in a span, which ends with the response, or with the head of an event stream."""
        headers = {key.decode(): value.decode("latin-1") for key, value in scope["headers"] if key in _CONTEXT_HEADERS}
        with tracing.span(exchange.method, parent=tracing.extract(headers), kind=SpanKind.SERVER) as span:
            try:
                await self._app(scope, receive, self._observe(exchange, scope, send))
            finally:
                exchange.route = _template(scope)
                span.update_name(f"{exchange.method} {exchange.route}")
                span.set_attributes({"http.route": exchange.route, "http.response.status_code": exchange.status})
                if exchange.status >= _SERVER_ERROR:
                    span.set_status(Status(StatusCode.ERROR))

    def _observe(self, exchange: Exchange, scope: Scope, send: Send) -> Send:
        started = time.perf_counter()
        traceresponse = (tracing.current_traceparent() or "").encode()

        async def send_observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                kind = dict(message["headers"]).get(b"content-type", b"")
                exchange.route, exchange.status = _template(scope), message["status"]
                exchange.first_byte_s = time.perf_counter() - started
                exchange.streams = kind.startswith(b"text/event-stream")
                message["headers"] = [*message["headers"], (b"traceresponse", traceresponse)]
                self.report(exchange)
            await send(message)

        return send_observed


def _template(scope: Scope) -> str:
    """Return the route as declared, with its parameters unfilled; for a static file, the mount point."""
    if (route := scope.get("route")) is not None:
        return str(route.path)
    return str(scope.get("root_path")) or ("page" if "endpoint" in scope else "unmatched")
