"""W3C trace context: from a request through every message to each step of the work, whether or not anybody records it.

Only the API of OpenTelemetry is needed. Without its SDK a context is handed on as it came, which costs microseconds;
with it (the extra `otlp`, and an endpoint) each span here becomes one that a collector sees.
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
"""No parent: a trace begins here."""
TRACEPARENT = "traceparent"
_EXPORT_S = 1.5
_W3C = TraceContextTextMapPropagator()
_TRACER = trace.get_tracer("artmancer")


def configure(settings: TraceSettings, service: str, instance: str) -> None:
    """Send spans to the collector that the settings name, if they name one. Raises ConfigError without the SDK."""
    if not settings.endpoint:
        return
    try:
        # The SDK takes 8 MB and 0.2 s, and most installations do not have it.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the exporter is not installed: it is in the extra `otlp`."
        ) from error
    names = {"service.name": service, "service.namespace": "artmancer", "service.instance.id": instance}
    provider = TracerProvider(resource=Resource.create(names))
    # What is left is sent at exit, retries included, so a collector that hangs must not hold up a stop for ten seconds.
    # All other standard OTEL_ variables are read by the exporter and the processor themselves.
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
    """Do what the block does as a part of the parent, or of what runs now. Not around a `yield` of a generator.

    An error marks the span with its kind; its text stays here, for it may hold what a user sent.
    """
    begun = _TRACER.start_span(name, context=parent, kind=kind, links=links, attributes=attributes)
    if not begun.get_span_context().is_valid:  # nobody records, and nobody has begun
        begun = trace.NonRecordingSpan(_new_context())
    with trace.use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield begun
        except ArtMancerError as error:
            begun.set_status(Status(StatusCode.ERROR, error.code))
            raise
        except BaseException as error:
            begun.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def extract(headers: Mapping[str, str] | None, traceparent: str | None = None) -> Context:
    """Return the context in which a message was sent: by its headers, or by what its body says where they do not."""
    if headers is not None and (TRACEPARENT in headers):
        return _W3C.extract(headers, NO_PARENT)
    return _W3C.extract({TRACEPARENT: traceparent}, NO_PARENT) if traceparent else NO_PARENT


def link_to(context: Context) -> tuple[Link, ...]:
    """Point at a trace that this one does not belong to; nothing where there is none."""
    found = trace.get_current_span(context).get_span_context()
    return (Link(found),) if found.is_valid else ()


@contextlib.contextmanager
def publish_span(name: str, headers: MutableMapping[str, str]) -> Iterator[None]:
    """Send a message with these headers as a part of what runs now; outside of any trace it is only sent."""
    if not trace.get_current_span().get_span_context().is_valid:
        yield
        return
    with span(name, kind=SpanKind.PRODUCER):
        _W3C.inject(headers)
        yield


def add_event(event: str, **attributes: AttributeValue) -> None:
    """Mark a moment within the span that runs now."""
    trace.get_current_span().add_event(event, attributes)


def inject(headers: MutableMapping[str, str]) -> None:
    """Add the context that runs now to the headers of a message."""
    _W3C.inject(headers)


def current_traceparent() -> str | None:
    """Return the `traceparent` of what runs now."""
    headers: dict[str, str] = {}
    _W3C.inject(headers)
    return headers.get(TRACEPARENT)


def current_ids() -> tuple[str, str] | None:
    """Return the ids of the trace and the span that run now, in hexadecimal, for the log."""
    running = trace.get_current_span().get_span_context()
    return (f"{running.trace_id:032x}", f"{running.span_id:016x}") if running.is_valid else None


def _new_context() -> trace.SpanContext:
    return trace.SpanContext(
        trace_id=random.getrandbits(128) or 1,
        span_id=random.getrandbits(64) or 1,
        is_remote=False,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
