"""One trace from the browser to the steps of the worker: in the messages always, in a collector where there is one."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from shared import rpc, subjects
from shared.messages import JobWork, ReplayReply, ReplayRequest
from shared.topology import JOB_EV, JOB_LOG, JOB_Q
from tests.gateway import HOST, Client, edit
from tests.ports import free_port
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from tests.running import Desk

ROOT = Path(__file__).parents[3]
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{SPAN}-01"


async def traces_of(desk: Desk, stream: str, pattern: str) -> set[str]:
    """Return the trace ids in the headers of the messages on a subject pattern."""
    manager = desk.bus.client.jetstream()
    messages = [await manager.get_msg(stream, stored.seq) for stored in await desk.bus.history(stream, pattern)]
    assert messages
    return {(message.headers or {}).get("traceparent", "none")[3:35] for message in messages}


async def test_a_job_stays_in_the_trace_that_its_body_names(desk: Desk) -> None:
    """A job that was published by hand has no header, so the `traceparent` in its body counts."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", traceparent=GIVEN)
        await desk.done("j1")

    assert await traces_of(desk, JOB_EV, subjects.events_of("j1")) == {TRACE}


async def test_a_job_without_a_trace_begins_one(desk: Desk) -> None:
    """One, not one for each service."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.done("j1")

    (found,) = await traces_of(desk, JOB_EV, subjects.events_of("j1"))
    assert len(found.strip("0")) > 1


async def test_a_second_attempt_belongs_to_the_same_trace(desk: Desk) -> None:
    """The queue keeps the context with the job, however often it is delivered."""
    async with desk.manager(), desk.worker("tests.fakes:MoodyEngine"):
        await desk.submit("j1", traceparent=GIVEN)
        done = await desk.done("j1")

    assert done.attempt == 2
    assert await traces_of(desk, JOB_EV, subjects.events_of("j1")) == {TRACE}


async def test_what_waits_for_a_worker_knows_its_trace(desk: Desk) -> None:
    """The header is for tools that read the queue; the body keeps it."""
    async with desk.manager():
        await desk.submit("j1", traceparent=GIVEN)

        async def is_queued() -> bool:
            return bool(await desk.bus.subjects_in(JOB_Q, ">"))

        await wait_until(is_queued, "the job waits for a worker")
        assert await traces_of(desk, JOB_Q, ">") == {TRACE}
        (stored,) = await desk.bus.history(JOB_Q, ">")

    assert str(JobWork.model_validate_json(stored.data).submit.traceparent)[3:35] == TRACE


async def test_a_replay_is_a_trace_of_its_own(desk: Desk) -> None:
    """Its log entry has the old body under a new header; the two traces must not become one of two days."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", traceparent=GIVEN)
        await desk.done("j1")
        reply = await rpc.call(
            desk.bus, subjects.JOB_REPLAY, ReplayRequest(from_seq=1), ReplayReply, timeout_s=TIMEOUT_S
        )
        (job,) = reply.jobs
        await desk.done(str(job.new_job_id))

    (found,) = await traces_of(desk, JOB_EV, subjects.events_of(str(job.new_job_id)))
    assert found not in {TRACE, "none"}
    assert found in await traces_of(desk, JOB_LOG, subjects.submissions_of("j1"))


async def test_every_answer_names_its_trace(client: Client) -> None:
    """The one that the browser has begun, or a new one; also of an error, and for scripts of another origin."""
    given = await client.get("/v1/samples", headers={"traceparent": GIVEN})
    begun = await client.get("/nowhere")

    assert given.headers["traceresponse"][3:35] == TRACE
    assert begun.status_code == 404
    assert len(begun.headers["traceresponse"]) == 55
    assert "traceresponse" in given.headers["access-control-expose-headers"]


# --- with a collector ---------------------------------------------------------------------------------------------


class Collector:
    """Takes spans as an OpenTelemetry collector does, over HTTP."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}  # by id
        self.services: dict[str, str] = {}

    async def take(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer exports until the exporter hangs up."""
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode().lower():
                length = int(head.partition("content-length: ")[2].split("\r\n")[0])
                request = ExportTraceServiceRequest.FromString(await reader.readexactly(length))
                for sent in request.resource_spans:
                    facts = {entry.key: entry.value.string_value for entry in sent.resource.attributes}
                    for span in (span for scope in sent.scope_spans for span in scope.spans):
                        self.spans[span.span_id.hex()] = span
                        self.services[span.span_id.hex()] = facts["service.name"]
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def path_to(self, name: str, trace: str = TRACE) -> list[str]:
        """Return the spans from the root of a trace down to the first one of this name, each with its service."""
        found = [key for key, span in self.spans.items() if span.name == name and span.trace_id.hex() == trace]
        here = found[0] if found else ""
        path: list[str] = []
        while here in self.spans:
            path.insert(0, f"{self.services[here]}: {self.spans[here].name}")
            here = self.spans[here].parent_span_id.hex()
        return path if here == SPAN else []


@asynccontextmanager
async def traced_services(nats_url: str, collector: Collector) -> AsyncIterator[Client]:
    """Gateway, job manager and a worker as processes that export their spans."""
    server = await asyncio.start_server(collector.take, HOST, 0)
    port = free_port()
    own = {
        "NATS_URL": nats_url,
        "GATEWAY_PORT": str(port),
        "A100WORKER_BACKEND": "scripted",
        "STREAMS_PICTURE_BYTES": str(1024**3),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{server.sockets[0].getsockname()[1]}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    async with server, AsyncExitStack() as running:
        for name in ("gateway", "jobmanager", "a100worker"):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"services.{name}", cwd=ROOT, env=os.environ | own
            )
            running.push_async_callback(process.wait)
            running.callback(process.terminate)
        yield await running.enter_async_context(Client(port))


async def healthy(client: Client) -> bool:
    try:
        return bool((await client.get("/api/health")).json()["status"] == "healthy")
    except httpx.TransportError:
        return False


async def test_a_collector_sees_one_tree(nats_url: str) -> None:
    """The tree goes from the request to the engine's steps, over three services. No span contains user data."""
    collector = Collector()
    async with traced_services(nats_url, collector) as client:
        await wait_until(lambda: healthy(client), "the gateway is healthy")
        order = edit(prompt="my secret wish")
        answer = await client.post("/api/generate/async", json=order, headers={"traceparent": GIVEN})
        await wait_until(lambda: collector.path_to("job.store"), "the worker's spans have come")
        await wait_until(lambda: collector.path_to("job.attempt"), "the attempt has ended")

    assert answer.status_code == 200
    assert collector.path_to("job.edit") == [
        "gateway: POST /api/generate/async",
        "gateway: publish job.submit",
        "jobmanager: job.admit",
        "jobmanager: job.queue",
        "jobmanager: publish job.q",
        "a100worker: job.attempt",
        "a100worker: job.edit",
    ]
    editing = next(span for span in collector.spans.values() if span.name == "job.edit")
    assert [event.name for event in editing.events][:2] == ["step", "step"]
    assert not any(b"secret wish" in span.SerializeToString() for span in collector.spans.values())
