"""Trace context without a recorder: it is read, begun and passed on, and contains no text of a user."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry import trace

from shared import tracing
from shared.errors import NotFound
from shared.settings import TraceSettings

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{SPAN}-01"
ROOT = Path(__file__).parents[3]
WITHOUT_SDK = """
import sys
sys.modules["opentelemetry.sdk.trace"] = None
from shared import tracing
from shared.errors import ConfigError
from shared.settings import TraceSettings
try:
    tracing.configure(TraceSettings(endpoint="http://127.0.0.1:9"), "oven", "o1")
except ConfigError as error:
    print(error.message)
"""


def test_what_was_received_is_sent_on() -> None:
    """The context keeps the entries that other systems added."""
    headers: dict[str, str] = {}
    with tracing.span("work", parent=tracing.extract({"traceparent": GIVEN, "tracestate": "vendor=1"})):
        tracing.inject(headers)

    assert headers == {"traceparent": GIVEN, "tracestate": "vendor=1"}


@pytest.mark.parametrize(
    "nonsense", ["", "hello", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", GIVEN.upper(), GIVEN + "\r\nX: y"]
)
def test_nonsense_begins_a_trace(nonsense: str) -> None:
    """An invalid context is ignored: the context that we send is well formed and our own."""
    with tracing.span("work", parent=tracing.extract({"traceparent": nonsense})):
        begun = tracing.current_traceparent()

    assert begun is not None
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", begun)
    assert TRACE not in begun


def test_headers_outweigh_the_body() -> None:
    """A replayed body is unchanged, so the context in its header wins."""
    body = f"00-{'1' * 32}-{'2' * 16}-01"

    with tracing.span("work", parent=tracing.extract({"traceparent": GIVEN}, body)):
        assert tracing.current_traceparent() == GIVEN
    with tracing.span("work", parent=tracing.extract({"Nats-Msg-Id": "1"}, body)):
        assert tracing.current_traceparent() == body


def test_outside_of_a_trace_nothing_is_added() -> None:
    """Background work has no trace."""
    headers = {"Nats-Msg-Id": "1"}
    with tracing.publish_span("publish", headers):
        tracing.add_event("step", step=1)

    assert headers == {"Nats-Msg-Id": "1"}
    assert (tracing.current_traceparent(), tracing.current_ids()) == (None, None)


async def test_tasks_and_threads_belong_to_who_starts_them() -> None:
    """An engine works in a thread, its steps are published from a task."""

    async def task() -> str | None:
        return tracing.current_traceparent()

    with tracing.span("work", parent=tracing.extract({"traceparent": GIVEN})):
        in_task = asyncio.create_task(task(), name="task")
        in_thread = await asyncio.to_thread(tracing.current_traceparent)

    assert (await in_task, in_thread) == (GIVEN, GIVEN)
    assert tracing.current_traceparent() is None


def test_an_error_passes() -> None:
    """And ends the span on its way."""
    with pytest.raises(NotFound), tracing.span("work"):
        raise NotFound

    assert not trace.get_current_span().get_span_context().is_valid


def test_a_link_points_at_a_trace_that_there_is() -> None:
    """At nothing otherwise."""
    (link,) = tracing.link_to(tracing.extract({"traceparent": GIVEN}))

    assert f"{link.context.trace_id:032x}" == TRACE
    assert tracing.link_to(tracing.extract(None)) == ()


def test_without_an_endpoint_nothing_is_set_up() -> None:
    """The API of OpenTelemetry keeps its provider that does nothing."""
    before = trace.get_tracer_provider()
    tracing.configure(TraceSettings(endpoint=""), "oven", "o1")

    assert trace.get_tracer_provider() is before


def test_the_missing_extra_is_named() -> None:
    """Not every image has the exporter."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_SDK], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )

    assert ended.stdout == (
        "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the exporter is not installed; install the extra `otlp`.\n"
    )
