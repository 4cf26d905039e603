"""The HTTP metrics. Labels are bounded: a route is a template, without the values of its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from services.gateway.http.instrumentation import Exchange

REQUESTS = Counter(
    "artmancer_http_requests", "HTTP requests that were answered, by route template", ("method", "route", "status")
)
LATENCY = Histogram(
    "artmancer_http_request_seconds",
    "Seconds from a request to the first byte of its answer",
    ("route",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
STREAMS = Gauge("artmancer_sse_streams_open", "Event streams that somebody reads at the moment")


def count(exchange: Exchange) -> None:
    """Record an exchange at the start of its response, and again at its end."""
    if exchange.ended:
        REQUESTS.labels(exchange.method, exchange.route, exchange.status).inc()
        if exchange.streams:
            STREAMS.dec()
        return
    LATENCY.labels(exchange.route).observe(exchange.first_byte_s)
    if exchange.streams:
        STREAMS.inc()
