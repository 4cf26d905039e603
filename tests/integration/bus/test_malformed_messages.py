"""Malformed messages on every subject, stream and bucket: each is skipped or dead-lettered, and no service ends."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from services.imageutils import service as imageutils
from services.imageutils.settings import Settings as ImageUtilsSettings
from services.segmentation import service as segmentation
from services.segmentation.settings import Settings as SegmentationSettings
from shared import rpc, subjects
from shared.messages import QueueQuery, QueueReport, RedriveRequest, ReplayReply
from shared.settings import NatsSettings
from shared.topology import ADVISORY, JOB_DLQ, JOB_EV, JOB_LOG, PROJECTOR, bucket_stream
from tests.gateway import png
from tests.v1_client import beside, upload
from tests.waiting import wait_until

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client
    from tests.running import Desk

ADVISORY_SUBJECT = subjects.MAX_DELIVERIES.replace(">", "a100-interactive-removal")
RECORDED = [json.loads(path.read_text()) for path in sorted(Path("tests/wire/0.1.0").glob("*.json"))]
TIMEOUT_S = 10.0
# A name in a subject: a valid one, and two that the broker accepts and a token is not.
NAMES = ("j1", "ü", "x" * 80)
SUBJECTS = [
    subject
    for name in NAMES
    for subject in (
        f"job.submit.a100.interactive.u1.{name}",
        f"job.submit.a100.batch.{name}.j1",
        f"job.q.a100.interactive.removal.u1.{name}",
        f"job.q.a100.batch.white-balance.{name}.j1",
        *(f"job.ev.{name}.{kind}" for kind in ("queued", "started", "returned", "progress", "preview", "done", "end")),
        f"job.ev.{name}",
        f"job.dlq.a100.bad_message.{name}",
        f"job.dlq.{name}",
        ADVISORY_SUBJECT,
        f"$KV.jobs.local.{name}",
        f"$KV.jobs.u1.{name}",
        f"$KV.sessions.local.{name}",
        f"$KV.owned.local.{name}",
        f"live.ev.{name}.started",
        f"live.ev.{name}.end",
        "live.ev",
        f"live.q.a100.interactive.removal.u1.{name}",
        f"live.q.a100.{name}.{name}.u1.j1",
        f"live.q.{name}",
        f"webhook.q.u1.wh_1.end.{name}",
        f"webhook.q.u1.{name}.test.j1",
        f"$KV.webhooks.u1.endpoint.{name}",
        f"$KV.webhooks.u1.state.{name}",
        f"live.webhook.q.{name}",
        f"live.webhook.kv.{name}",
        f"ctl.seg-cancel.{name}",
        "$JS.EVENT.ADVISORY.STREAM.DELETED.nothing",
        "$JS.EVENT.ADVISORY.CONSUMER.DELETED.nothing.nothing",
    )
] + [
    subjects.SEG_MASK,
    subjects.SEG_OUTLINE,
    subjects.SEG_SALIENCY,
    subjects.IMG_EXTRACT,
    subjects.IMG_SHADOW,
    subjects.IMG_WHITE_BALANCE,
    subjects.IMG_ESTIMATE_LIGHT,
    subjects.JOB_QUEUE,
    subjects.JOB_REPLAY,
    subjects.JOB_REDRIVE,
    *(subjects.health(name) for name in ("jobmanager", "a100worker", "imageutils", "segmentation")),
]


def random_json(rng: random.Random, depth: int = 3) -> Any:
    """Return any JSON value; numbers are often extreme."""
    leaves = [None, True, 0, -1, 1e300, -1e300, 10**40, 2**63, "", "\0", "x" * 300, "j1", rng.random()]
    if depth == 0 or rng.random() < 0.4:
        return rng.choice(leaves)
    values = [random_json(rng, depth - 1) for _ in range(rng.randrange(4))]
    return values if rng.random() < 0.5 else {rng.choice(["v", "at", "job_id", "ü", ""]): value for value in values}


def damage(rng: random.Random, message: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded message with one field replaced or removed, at any depth, or unchanged."""
    damaged = dict(message)
    field = rng.choice(sorted(damaged))
    if isinstance(damaged[field], dict) and damaged[field] and rng.random() < 0.5:
        damaged[field] = damage(rng, damaged[field])
    elif rng.random() < 0.8:
        damaged[field] = random_json(rng)
    else:
        del damaged[field]
    return damaged


def bodies(rng: random.Random) -> list[bytes]:
    """Return one body of each sort: random bytes, random JSON, a damaged message, nested JSON."""
    return [
        rng.randbytes(rng.randrange(200)),
        json.dumps(random_json(rng)).encode(),
        json.dumps(damage(rng, rng.choice(RECORDED))).encode(),
        json.dumps(damage(rng, rng.choice(RECORDED))).encode(),
        rng.choice([b"[" * 5000, b"{}", b"", b"9" * 5000, b'"\\ud800"', b"\xff"]),
    ]


async def consumers_are_idle(bus: Bus) -> bool:
    """Return whether the readers of the streams have settled every message."""
    found = [
        consumer
        for stream in (JOB_LOG, JOB_EV, ADVISORY)
        for consumer in await bus.client.jetstream().consumers_info(stream)
    ]
    return all(consumer.num_pending == consumer.num_ack_pending == 0 for consumer in found)


async def events_are_folded(bus: Bus) -> bool:
    """Return whether the projector has settled every event."""
    projector = await bus.client.jetstream().consumer_info(JOB_EV, PROJECTOR)
    return bool(projector.num_pending == projector.num_ack_pending == 0)


async def put_entry(bus: Bus, bucket: str, name: str, body: bytes) -> None:
    """Replace the entry of an object."""
    encoded = base64.urlsafe_b64encode(name.encode()).decode()
    await bus.publish(subjects.object_entry(bucket, encoded), body, headers={"Nats-Rollup": "sub"})


async def redrive(desk: Desk) -> ReplayReply:
    """Run all dead letters again."""
    request = RedriveRequest()
    return await rpc.call(desk.bus, subjects.JOB_REDRIVE, request, ReplayReply, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("seed", range(2))
async def test_every_service_survives_random_messages(
    desk: Desk, client: Client, nats_url: str, stream_settings: StreamSettings, seed: int
) -> None:
    """Afterwards each service works as before, and the views of the gateway can be read."""
    rng = random.Random(seed)  # noqa: S311 (repeatable)
    common = {"nats": NatsSettings(url=nats_url), "streams": stream_settings, "drain_s": 1.0}
    utilities = ImageUtilsSettings.model_validate(common)
    masks = SegmentationSettings.model_validate({**common, "model_dir": Path("no-such-folder"), "backends": "grabcut"})
    async with AsyncExitStack() as services:
        await services.enter_async_context(desk.manager())
        await services.enter_async_context(desk.worker())
        await services.enter_async_context(beside(desk.bus, imageutils.NAME, imageutils.run, utilities))
        await services.enter_async_context(beside(desk.bus, segmentation.NAME, segmentation.run, masks))
        photo = await upload(client, png())
        for subject in rng.sample(SUBJECTS, len(SUBJECTS)):
            for body in bodies(rng):
                await desk.bus.emit(subject, body)
        await desk.bus.ping()
        await wait_until(lambda: consumers_are_idle(desk.bus), "every stream is read to its end")
        await put_entry(desk.bus, "inputs", photo, rng.choice(bodies(rng)))

        for path in ("/v1/jobs", "/v1/jobs?limit=100", "/api/debug/sessions", "/api/health"):
            assert (await client.get(path)).status_code == 200, path
        for path in ("/v1/jobs/j1", "/v1/jobs/j1/receipt", "/v1/jobs/ü", f"/v1/images/{photo}"):
            assert (await client.get(path)).status_code < 500, path
        assert await upload(client, png()) == photo
        await rpc.call(desk.bus, subjects.JOB_QUEUE, QueueQuery(), QueueReport, timeout_s=TIMEOUT_S)
        await redrive(desk)
        await desk.submit("afterwards")
        await desk.done("afterwards")
        assert (await client.post("/v1/masks", json={"image": photo, "box": [5, 5, 40, 30]})).status_code < 500


@pytest.mark.parametrize("body", [b"garbage", b"{}", b'{"timestamp": "2026-01-01", "stream_seq": -1}'])
async def test_a_malformed_advisory_is_skipped(desk: Desk, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The job manager settles it and logs its place, not its content."""
    subject = f"{ADVISORY_SUBJECT}-{len(body)}"
    with caplog.at_level(logging.WARNING):
        async with desk.manager():
            seq = await desk.bus.publish(subject, body)
            await wait_until(lambda: consumers_are_idle(desk.bus), "the advisory is settled")
    (logged,) = [record for record in caplog.records if record.getMessage() == "message.malformed"]

    assert (logged.__dict__["subject"], logged.__dict__["seq"]) == (subject, seq)
    assert body.decode() not in logged.__dict__["reason"]


@pytest.mark.parametrize("owner", ["u1", "a-stranger"])
async def test_a_malformed_record_is_replaced(desk: Desk, owner: str) -> None:
    """The next event of the job writes the record again, also beside garbage under another owner."""
    key = subjects.job_record("u1", "j1")
    await desk.bus.publish(subjects.job_record(owner, "j1"), b"garbage")
    await desk.bus.publish(key, b"garbage")
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.done("j1")
        await wait_until(lambda: consumers_are_idle(desk.bus), "every event is folded")
    record = await desk.bus.last("KV_jobs", key)

    assert record is not None
    assert json.loads(record.data)["state"] == "done"


async def test_a_malformed_dead_letter_does_not_stop_the_others(desk: Desk) -> None:
    """It is reported with a problem, stays, and the letter after it runs again."""
    malformed = await desk.bus.publish(subjects.dead_letter("bad_message", "strange"), b"garbage")
    async with desk.manager():
        async with desk.worker("tests.fakes:FailingEngine"):
            await desk.submit("j1")
            await desk.failed("j1")
        async with desk.worker():
            reply = await redrive(desk)
            await desk.done(str(reply.jobs[1].new_job_id))

    assert [(job.job_id, bool(job.problem)) for job in reply.jobs] == [(f"unnamed-r{malformed}", True), ("j1", False)]
    assert [letter.seq for letter in await desk.bus.history(JOB_DLQ, subjects.ALL_DEAD)] == [malformed]


async def test_an_event_far_in_the_future_is_skipped(desk: Desk, client: Client) -> None:
    """A year that no calendar has must not break the list of jobs."""
    await desk.submit("j1", user="local")
    async with desk.manager():
        await wait_until(lambda: desk.stored_events("j1"), "the job is queued")
        event = {"type": "returned", "job_id": "j1", "at": 1e300, "worker": "w1", "attempt": 1, "reason": "busy"}
        await desk.bus.publish(subjects.event("j1", "returned"), json.dumps(event).encode())
        await wait_until(lambda: events_are_folded(desk.bus), "every event is folded")
        answers = await asyncio.gather(client.get("/v1/jobs"), client.get("/v1/jobs/j1"))

    assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize("body", [b"{}", b"garbage", b'{"nuid": "a.b", "mtime": "2026-01-01T00:00:00Z"}'])
async def test_an_upload_repairs_a_malformed_entry(client: Client, bus: Bus, body: bytes) -> None:
    """Until then the image does not exist."""
    photo = await upload(client, png())
    await put_entry(bus, "inputs", photo, body)

    assert (await client.get(f"/v1/images/{photo}")).status_code == 404
    assert await upload(client, png()) == photo
    assert (await client.get(f"/v1/images/{photo}")).content == png()


async def test_chunks_of_another_client_may_have_any_message_id(images: NatsImageStore, bus: Bus) -> None:
    """Only our own chunks are numbered."""
    ref = await images.put("inputs", png())
    (chunk,) = await bus.history(bucket_stream("inputs"), "$O.inputs.C.>")
    await bus.purge(bucket_stream("inputs"), chunk.subject)
    await bus.publish(chunk.subject, chunk.data, msg_id="another.client")

    assert await images.get("inputs", ref.sha256) == png()


async def test_an_impossible_submission_of_a_job_is_skipped(desk: Desk) -> None:
    """A submission under the same id, with an owner that no token can be, is the first one in the log."""
    await desk.bus.publish("job.submit.a100.interactive.ü.j1", b"{}")
    async with desk.manager(), desk.worker():
        seq = await desk.submit("j1")
        await desk.done(subjects.replay_id("j1", seq))
