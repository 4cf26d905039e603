"""W3C trace context, from an HTTP request through every message to each step of the work.

This module needs only the API of OpenTelemetry. Without the SDK it passes the context on, which costs microseconds.
With the SDK (the extra `otlp`) and an endpoint, it exports the spans to a collector.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import ArtMancerError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from shared.settings import TraceSettings

NO_PARENT = Context()
"""A context without a span: the next span starts a trace."""
TRACEPARENT = "traceparent"
_EXPORT_S = 1.5
_W3C = TraceContextTextMapPropagator()
_TRACER = trace.get_tracer("artmancer")


def configure(settings: TraceSettings, service: str, instance: str) -> None:
    """Export spans to the collector in the settings, if there is one. Raises ConfigError without the SDK."""
    if not settings.endpoint:
        return
    try:
        # The SDK costs 8 MB and 0.2 s, and most installations do not have it.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the exporter is not installed; install the extra `otlp`."
        ) from error
    names = {"service.name": service, "service.namespace": "artmancer", "service.instance.id": instance}
    provider = TracerProvider(resource=Resource.create(names))
    # The last spans are exported at exit, so a hung collector may not delay a stop for the default of ten seconds.
    # The exporter and the processor read all other standard OTEL_ variables.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=_EXPORT_S)))
    trace.set_tracer_provider(provider)


@contextlib.contextmanager
def span(
    name: str,
    *,
    parent: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    links: tuple[Link, ...] = (),
    **attributes: AttributeValue,
) -> Iterator[Span]:
    """Run the block in a new span below the parent, or below the current span. Not for a block that yields.

    An exception sets its type on the span, but not its text, which may contain user data.
    """
    started = _TRACER.start_span(name, context=parent, kind=kind, links=links, attributes=attributes)
    if not started.get_span_context().is_valid:  # no SDK, and no parent
        started = trace.NonRecordingSpan(_new_context())
    with trace.use_span(started, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield started
        except ArtMancerError as error:
            started.set_status(Status(StatusCode.ERROR, error.code))
            raise
        except BaseException as error:
            started.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def extract(headers: Mapping[str, str] | None, traceparent: str | None = None) -> Context:
    """Return the context of a message: from its headers, or else from the `traceparent` in its body."""
    if headers is not None and (TRACEPARENT in headers):
        return _W3C.extract(headers, NO_PARENT)
    return _W3C.extract({TRACEPARENT: traceparent}, NO_PARENT) if traceparent else NO_PARENT


def link_to(context: Context) -> tuple[Link, ...]:
    """Return a link to the span of another trace; empty if the context has none."""
    found = trace.get_current_span(context).get_span_context()
    return (Link(found),) if found.is_valid else ()


@contextlib.contextmanager
def publish_span(name: str, headers: MutableMapping[str, str]) -> Iterator[None]:
    """Run the block, which publishes a message with these headers, in a span; without an exporter pass the trace on."""
    if not trace.get_current_span().is_recording():
        _W3C.inject(headers)
        yield
        return
    with span(name, kind=SpanKind.PRODUCER):
        _W3C.inject(headers)
        yield


def add_event(event: str, **attributes: AttributeValue) -> None:
    """Add an event to the current span."""
    trace.get_current_span().add_event(event, attributes)


def inject(headers: MutableMapping[str, str]) -> None:
    """Add the current context to the headers of a message."""
    _W3C.inject(headers)


def current_traceparent() -> str | None:
    """Return the `traceparent` of the current span, or None."""
    headers: dict[str, str] = {}
    _W3C.inject(headers)
    return headers.get(TRACEPARENT)


def current_ids() -> tuple[str, str] | None:
    """Return trace id and span id of the current span in hexadecimal, or None."""
    running = trace.get_current_span().get_span_context()
    return (f"{running.trace_id:032x}", f"{running.span_id:016x}") if running.is_valid else None


def _new_context() -> trace.SpanContext:
    return trace.SpanContext(
        trace_id=random.getrandbits(128) or 1,
        span_id=random.getrandbits(64) or 1,
        is_remote=False,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
