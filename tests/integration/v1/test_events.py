"""The event stream of /v1, byte by byte: names, ids, resuming and its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared import subjects
from shared.job_events import load_record
from shared.messages import JobRecord, Preview
from shared.settings import NatsSettings
from shared.topology import JOB_EV
from tests.gateway import HOST, ORIGIN, Wire, gateway, healthy
from tests.v1_client import next_event, parse_event, read_events, submit

if TYPE_CHECKING:
    from services.stack.nats_server import NatsServer
    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.gateway import Client, WorkerByHand


async def resume(client: Client, job_id: str, after: int, query: str = "") -> Wire:
    """Request the events after an event, like a browser that reconnects."""
    reader, writer = await asyncio.open_connection(HOST, client.port)
    head = f"GET /v1/jobs/{job_id}/events{query} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {after}\r\n\r\n"
    writer.write(head.encode())
    return Wire((await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer)


async def whole_job(client: Client, worker: WorkerByHand) -> str:
    """Return a job from queued to done, in six events."""
    job_id = await submit(client)
    await worker.queue(job_id)
    await worker.start(job_id)
    await worker.load(job_id, 0.5)
    await worker.step(job_id, 1, 2, "One")
    await worker.say(Preview(job_id=job_id, step=1, jpeg_base64="/9j/"))
    await worker.finish(job_id)
    return job_id


async def test_the_head_is_that_of_a_stream(client: Client) -> None:
    """Proxies must not buffer or cache it."""
    async with await client.open_stream(f"/v1/jobs/{await submit(client)}/events") as stream:
        head = stream.head.lower()

    assert stream.status == 200
    assert "content-type: text/event-stream" in head
    assert "cache-control: no-cache" in head
    assert "x-accel-buffering: no" in head
    assert f"access-control-allow-origin: {ORIGIN}" in head


async def test_every_event_has_name_number_and_one_line_of_facts(
    client: Client, bus: Bus, worker: WorkerByHand
) -> None:
    """Lines end with LF, an empty line ends the event, ids are stream sequences."""
    job_id = await submit(client)
    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        await worker.queue(job_id)
        frame = await stream.chunk()

    (stored,) = await bus.history(JOB_EV, subjects.events_of(job_id))
    assert b"\r" not in frame
    assert frame.startswith(b"id: %d\nevent: queued\ndata: {" % stored.seq)
    assert frame.endswith(b"}\n\n")


async def test_a_stream_has_all_events_of_a_job(client: Client, worker: WorkerByHand) -> None:
    """After the terminal event the body ends."""
    job_id = await whole_job(client, worker)

    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        events = await read_events(stream)

    assert [event.name for event in events] == ["queued", "started", "progress", "progress", "preview", "done"]
    assert [event.facts["status"] for event in events] == ["queued", *["running"] * 4, "done"]
    assert [event.facts["progress"] for event in events] == [0.0, 0.0, 0.0, 0.5, 0.5, 1.0]
    assert sorted({event.seq for event in events}) == [event.seq for event in events]


async def test_the_facts_are_those_of_the_event(client: Client, worker: WorkerByHand) -> None:
    """The envelope is removed, and the result has the format of /v1."""
    job_id = await whole_job(client, worker)

    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        queued, *_, step, preview, done = [event.facts for event in await read_events(stream)]

    assert (queued["job_id"], queued["task"], queued["total_steps"], queued["ahead"]) == (job_id, "removal", 3, None)
    assert (step["phase"], step["step"], step["total_steps"], step["message"]) == ("processing", 1, 2, "One")
    assert preview["jpeg_base64"] == "/9j/"
    assert set(done["result"]) == {"sha256", "width", "height", "content_type", "bytes", "notes"}
    assert not {"v", "type"} & (queued.keys() | step.keys() | preview.keys() | done.keys())


async def test_events_come_as_they_happen(client: Client, worker: WorkerByHand) -> None:
    """Each event arrives before the next one happens."""
    job_id = await submit(client)
    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        await worker.queue(job_id)
        first = await next_event(stream)
        await worker.start(job_id)
        second = await next_event(stream)
        await worker.fail(job_id, "No.")
        rest = await read_events(stream)

    assert (first.name, second.name, [event.name for event in rest]) == ("queued", "started", ["failed"])
    assert (rest[0].facts["code"], rest[0].facts["message"]) == ("engine_failed", "No.")


async def test_a_cancel_ends_the_stream(client: Client, worker: WorkerByHand) -> None:
    """The last event is `cancelled`."""
    job_id = await submit(client)
    await worker.queue(job_id)
    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        await next_event(stream)
        await client.delete(f"/v1/jobs/{job_id}")
        events = await read_events(stream)

    assert [event.name for event in events] == ["cancelled"]


async def test_an_idle_stream_sends_comments(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> None:
    """Comments are sent as events without data."""
    assert bus.is_connected
    async with (
        gateway(NatsSettings(url=nats_url), stream_settings, heartbeat_s=0.1) as client,
        await client.open_stream(f"/v1/jobs/{await submit(client)}/events") as stream,
    ):
        assert await stream.chunk() == b": ping\n\n"


@pytest.mark.parametrize("seen", range(1, 7))
async def test_a_stream_resumes_behind_the_last_event_seen(client: Client, worker: WorkerByHand, seen: int) -> None:
    """The same frames follow, without duplicates or gaps."""
    job_id = await whole_job(client, worker)
    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        frames = await stream.rest()

    async with await resume(client, job_id, parse_event(frames[seen - 1]).seq) as stream:
        rest = await stream.rest() if stream.status == 200 else []

    assert rest == frames[seen:]


async def test_after_the_last_event_the_answer_is_204(client: Client, worker: WorkerByHand) -> None:
    """204 makes a browser stop reconnecting."""
    job_id = await whole_job(client, worker)
    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        last = (await read_events(stream))[-1].seq

    answer = await client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": str(last)})

    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_first_visit_can_resume_by_its_address(client: Client, worker: WorkerByHand) -> None:
    """A page that was reloaded cannot set the header, so the query has the event's id."""
    job_id = await whole_job(client, worker)
    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        events = await read_events(stream)

    async with await client.open_stream(f"/v1/jobs/{job_id}/events?last_event_id={events[2].seq}") as stream:
        rest = await read_events(stream)

    assert rest == events[3:]


async def test_the_header_is_newer_than_the_address(client: Client, worker: WorkerByHand) -> None:
    """A browser that reconnects sends both; the header is used."""
    job_id = await whole_job(client, worker)
    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        events = await read_events(stream)

    async with await resume(client, job_id, events[3].seq, f"?last_event_id={events[0].seq}") as stream:
        rest = await read_events(stream)

    assert rest == events[4:]


async def test_a_stream_resumes_at_another_gateway(
    bus: Bus, nats_url: str, stream_settings: StreamSettings, worker: WorkerByHand
) -> None:
    """The first gateway stops during the job; there are no gaps and no duplicates."""
    assert bus.is_connected
    async with gateway(NatsSettings(url=nats_url), stream_settings) as client:
        job_id = await submit(client)
        await worker.queue(job_id)
        await worker.start(job_id)
        async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
            seen = [await next_event(stream), await next_event(stream)]
    await worker.step(job_id, 1, 2)
    async with (
        gateway(NatsSettings(url=nats_url), stream_settings) as client,
        await resume(client, job_id, seen[-1].seq) as stream,
    ):
        seen.append(await next_event(stream))
        await worker.step(job_id, 2, 2)
        await worker.finish(job_id)
        seen += await read_events(stream)

    assert [event.name for event in seen] == ["queued", "started", "progress", "progress", "done"]
    assert [event.facts["progress"] for event in seen] == [0.0, 0.0, 0.5, 0.5, 1.0]


async def test_the_gateways_stop_ends_the_stream(
    bus: Bus, nats_url: str, stream_settings: StreamSettings, worker: WorkerByHand
) -> None:
    """After the drain time the body ends, so the client reconnects to another replica."""
    assert bus.is_connected
    async with gateway(NatsSettings(url=nats_url), stream_settings, drain_s=0.1) as client:
        job_id = await submit(client)
        await worker.queue(job_id)
        stream = await client.open_stream(f"/v1/jobs/{job_id}/events")
        await next_event(stream)
    async with stream:
        rest = await read_events(stream)

    assert rest == []


async def test_a_stream_waits_for_a_broker_that_is_away(
    bus: Bus, nats_url: str, stream_settings: StreamSettings, worker: WorkerByHand, nats_server: NatsServer
) -> None:
    """After an error response a browser would not reconnect."""
    assert bus.is_connected
    async with gateway(NatsSettings(url=nats_url), stream_settings) as client:
        job_id = await submit(client)
        await worker.queue(job_id)
        await nats_server.kill()
        await healthy(client, "degraded")
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(client.open_stream(f"/v1/jobs/{job_id}/events"), name="open")
            await nats_server.start()
        async with opening.result() as stream:
            first = await next_event(stream)

    assert (stream.status, first.name) == (200, "queued")


async def test_the_end_is_sent_after_the_events_have_expired(client: Client, bus: Bus, worker: WorkerByHand) -> None:
    """Events expire after a day, the view after a week."""
    job_id = await whole_job(client, worker)
    job = await client.get(f"/v1/jobs/{job_id}")
    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        frames = await stream.rest()
    (end,) = await bus.history(JOB_EV, subjects.end(job_id))
    await _keep_in_view(bus, job_id, end.seq)
    await bus.purge(JOB_EV, subjects.events_of(job_id))

    async with await client.open_stream(f"/v1/jobs/{job_id}/events") as stream:
        rest = await stream.rest()

    assert rest == frames[-1:]
    assert (await client.get(f"/v1/jobs/{job_id}")).json()["result"] == job.json()["result"]


async def _keep_in_view(bus: Bus, job_id: str, seq: int) -> None:
    """Store a record in the view like the projector."""
    record = await load_record(bus, job_id)
    assert isinstance(record, JobRecord)
    assert record.last_seq == seq
    await bus.publish(subjects.job_record("local", job_id), record)


@pytest.mark.parametrize("job_id", ["nope", "a.b.c", "x" * 6000])
async def test_an_unknown_job_is_404_before_any_event(client: Client, job_id: str) -> None:
    """The error is problem details; an EventSource then stops."""
    answer = await client.get(f"/v1/jobs/{job_id}/events")

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("after", ["-1", "x", "1.5"])
async def test_a_senseless_number_is_refused(client: Client, after: str) -> None:
    """The stream must not start at a wrong place."""
    answer = await client.get(f"/v1/jobs/{await submit(client)}/events", headers={"Last-Event-ID": after})

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_input")


async def test_twenty_streams_of_one_job_are_equal(client: Client, worker: WorkerByHand) -> None:
    """Twenty tabs follow the same job."""
    job_id = await submit(client)
    streams = [await client.open_stream(f"/v1/jobs/{job_id}/events") for _ in range(20)]
    await worker.queue(job_id)
    await worker.step(job_id, 1)
    await worker.finish(job_id)

    names = [[event.name for event in await read_events(stream)] for stream in streams]

    for stream in streams:
        await stream.__aexit__()
    assert names == [["queued", "progress", "done"]] * 20
