"""The whole system with keys: each service does its work with its own key, and needs all of its permissions."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from deploy.accounts import STORE, account_imports, account_of
from deploy.permissions import DUTIES, OPERATOR, permissions
from shared import job_events, rpc, subjects, topology
from shared.bus import open_bus
from shared.messages import (
    DrainReply,
    DrainRequest,
    HealthReply,
    HealthRequest,
    JobClass,
    RedriveRequest,
    ReplayReply,
    ReplayRequest,
    Started,
    Task,
    WorkerAbilities,
)
from shared.topology import BUCKET_LIFE_S, JOB_DLQ, JOB_EV, JOB_Q, JOBS, SESSIONS, bucket_stream
from tests.gateway import b64, mask_png, png, saved
from tests.integration.stack.locked_stack import LockedStack, locked_stack
from tests.keys import matches
from tests.receiver import OK, Receiver, status
from tests.v1_client import upload
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus

pytestmark = pytest.mark.timeout(480)
SAMPLES = Path(__file__).parents[3] / "services/gateway/static/samples"
CAT = (SAMPLES / "cat.jpg").read_bytes()
_RENEWED = ("inputs", "debug")
# permissions that no run on one server can need, with the reason
SPARE = (
    (subjects.api("STREAM.MSG.GET", ">"), "only in a cluster, where the copy that was asked may lag behind"),
    (subjects.api("STREAM.UPDATE", ">"), "only after a change of settings or a drift"),
    (subjects.api("CONSUMER.DELETE", ">"), "only after a drift that the broker cannot correct"),
    (subjects.api("STREAM.MSG.DELETE", topology.JOB_LOG), "only when the log is nearly full"),
    (subjects.api("INFO"), "nobody asks, so that the broker does not answer: `deploy/accounts.py`"),
    *((subjects.object_entry(bucket, "*"), "a picture is stored again in half of its life") for bucket in _RENEWED),
    *((subjects.object_chunks(bucket, "*"), "a picture is stored again in half of its life") for bucket in _RENEWED),
    *(
        (subjects.api("STREAM.PURGE", bucket_stream(bucket)), "only after a picture has replaced its older copy")
        for bucket in BUCKET_LIFE_S
    ),
)

_NEARLY_FULL = "only when a stream is nearly full"
SPARE_OF = {
    "jobmanager": (
        *((subjects.api("STREAM.PURGE", stream), _NEARLY_FULL) for stream in (JOB_EV, JOBS, SESSIONS)),
        *((subjects.api("DIRECT.GET", stream, ">"), _NEARLY_FULL) for stream in (SESSIONS, bucket_stream("debug"))),
        *((subjects.api("DIRECT.GET", stream), _NEARLY_FULL) for stream in (SESSIONS, bucket_stream("debug"))),
    )
}


async def follow(stack: LockedStack, job_id: str) -> list[dict[str, Any]]:
    """Read a job's events to their end, and once more from the second on, as a browser does that reconnects."""
    whole = await events(stack, job_id)
    again = await events(stack, job_id, after=whole[0][0])
    assert again == whole[1:]
    return [facts for _, facts in whole]


async def events(stack: LockedStack, job_id: str, after: int | None = None) -> list[tuple[int, dict[str, Any]]]:
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    found, number = [], 0
    async with stack.client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as lines:
        async for line in lines.aiter_lines():
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("data: "):
                found.append((number, json.loads(line[6:])))
    return [(number, facts) for number, facts in found if "jpeg_base64" not in facts]  # only the newest is kept


async def ordered(stack: LockedStack, **order: object) -> str:
    answer = await stack.client.post("/v1/jobs", json=order)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def done(stack: LockedStack, **order: object) -> str:
    job_id = await ordered(stack, **order)
    told = await follow(stack, job_id)
    assert told[-1]["status"] == "done", (told[-1], stack.lines, stack.violations())
    links = (await stack.client.get(f"/v1/jobs/{job_id}")).json()["links"]
    pictures = [await stack.nobody.get(links["result"]), await stack.nobody.get(f"/v1/jobs/{job_id}/result")]
    assert [picture.status_code for picture in pictures] == [200, 401]
    return job_id


async def wait_for_end(stack: LockedStack, job_id: str) -> str:
    async def is_known() -> bool:
        return (await stack.client.get(f"/v1/jobs/{job_id}")).is_success

    await wait_until(is_known, f"{job_id} is known")
    return str((await events(stack, job_id))[-1][1]["status"])


async def edit_everything(stack: LockedStack) -> None:
    """Masks, the three tasks, the picture tools, debug sessions, the listings."""
    client = stack.client
    photo = await upload(client, CAT)
    found = (
        (await client.post("/v1/masks", json={"image": photo, "box": [100, 50, 300, 280]})).raise_for_status().json()
    )
    (await client.post("/v1/masks/preview", json={"image": photo, "point": [200, 150]})).raise_for_status()
    marked = await client.post("/api/smart-mask", json={"image": b64(CAT), "points": [[200, 150]]})
    (await client.post(f"/api/smart-mask/cancel/{marked.json()['request_id']}")).raise_for_status()
    (await client.get(f"/v1/images/{photo}/white-balance/estimate")).raise_for_status()
    cut = (await client.post("/v1/extractions", json={"image": photo, "mask": found["sha256"]})).raise_for_status()
    for job_class in JobClass:
        where = {"image": photo, "mask": found["sha256"], "class": job_class}
        await done(stack, task="removal", debug=True, **where)
        await done(stack, task="insertion", reference=cut.json()["sha256"], **where)
        balanced = await done(stack, task="white-balance", image=photo, **{"class": job_class})
    result = (await client.get(f"/v1/jobs/{balanced}")).json()["result"]["sha256"]
    again = (await client.post("/v1/masks", json={"image": result, "box": [100, 50, 300, 280]})).raise_for_status()
    await done(stack, task="removal", image=result, mask=again.json()["sha256"])
    deleted = await done(stack, task="removal", image=photo, mask=found["sha256"], seed=7)
    (await client.get(f"/v1/jobs/{deleted}/result?format=original")).raise_for_status()
    (await client.delete(f"/v1/jobs/{deleted}", params={"purge": "true"})).raise_for_status()
    (await client.delete(f"/v1/images/{await upload(client, png('teal'))}")).raise_for_status()
    shadow = await client.post("/api/image-utils/add-shadow-preview", json={"extracted_image": b64(png())})
    balance = await client.post("/api/image-utils/white-balance", files={"file": ("cat.jpg", CAT)})
    assert shadow.json()["success"]
    assert balance.json()["success"]
    for path in ("/v1/jobs", "/api/debug/sessions", "/api/debug/status"):
        (await client.get(path)).raise_for_status()
    assert (await client.post("/api/debug/cleanup", json={"keep_last_n": 0})).json()["deleted"] >= 2
    able = (await client.get("/v1/capabilities")).json()["tasks"]
    assert all(task["engines"] for task in able.values())
    health = (await client.get("/v1/health")).json()
    assert (health["status"], health["streams"]) == ("healthy", [])


async def receive_webhooks(stack: LockedStack) -> None:
    """Make an endpoint, fail its first call, send a test and a repetition, read the log, delete it."""
    answers = [status(500)]
    async with Receiver(answer=lambda _: answers.pop() if answers else OK).running() as receiver:
        endpoint = (await stack.client.post("/v1/webhooks", json={"url": receiver.url})).raise_for_status().json()
        path = f"/v1/webhooks/{endpoint['id']}"
        photo = await upload(stack.client, CAT)
        job_id = await done(stack, task="white-balance", image=photo)
        requests = await receiver.has(2)
        assert requests[-1].verified(endpoint["secret"])["data"]["job_id"] == job_id
        (await stack.client.post(f"{path}/test")).raise_for_status()
        await receiver.has(3)
        (await stack.client.post(f"{path}/redeliver", json={"job_id": job_id})).raise_for_status()
        await receiver.has(4)

        async def is_logged() -> bool:
            return len((await stack.client.get(f"{path}/attempts")).json()["attempts"]) == 4

        await wait_until(is_logged, "all attempts are logged")
        assert endpoint["id"] in (await stack.client.get("/v1/webhooks")).text
        (await stack.client.delete(path)).raise_for_status()


async def assemble_one(stack: LockedStack, bus: Bus) -> None:
    """Read the result of a removal after its bytes were deleted."""
    photo, mask = await upload(stack.client, CAT), await upload(stack.client, mask_png((451, 300), (20, 20, 40, 40)))
    job_id = await done(stack, task="removal", image=photo, mask=mask)
    sha256 = (await stack.client.get(f"/v1/jobs/{job_id}")).json()["result"]["sha256"]
    entry = subjects.object_entry("results", base64.urlsafe_b64encode(sha256.encode()).decode())
    await bus.purge(bucket_stream("results"), entry)
    answer = (await stack.client.get(f"/v1/images/{sha256}")).raise_for_status()
    assert hashlib.sha256(answer.content).hexdigest() == sha256


async def cancel_one(stack: LockedStack) -> None:
    await stack.client.post("/api/generate/async/cancel/" + (job_id := await stack.client.submit(input_image=b64(CAT))))
    assert await wait_for_end(stack, job_id) in {"cancelled", "done"}


async def work_as_operator(stack: LockedStack, bus: Bus) -> None:
    """Read, replay, submit an invalid job, and delete a consumer, which is created again."""
    assert await present(bus) == {service for service in DUTIES if DUTIES[service].serves}
    for service in sorted(service for service in DUTIES if DUTIES[service].serves):
        reply = await rpc.call(bus, subjects.health(service), HealthRequest(), HealthReply, timeout_s=TIMEOUT_S)
        assert reply.status == "healthy"
    again = ReplayRequest(from_seq=1, job_class=JobClass.BATCH)
    replayed = await rpc.call(bus, subjects.JOB_REPLAY, again, ReplayReply, timeout_s=TIMEOUT_S)
    assert await wait_for_end(stack, str(replayed.jobs[0].new_job_id)) == "done"
    await bus.publish(subjects.submission("interactive", "local", "nonsense"), b"no job")

    await bus.publish(subjects.queue_entry("interactive", Task.REMOVAL, "local", "scrawl"), b"no work")

    async def is_buried() -> bool:
        letters = [await bus.first(JOB_DLQ, subjects.dead_letters_of(job_id)) for job_id in ("nonsense", "scrawl")]
        return None not in letters

    await wait_until(is_buried, "the job manager has buried the one, a worker the other")
    queue = topology.worker_consumer(JobClass.INTERACTIVE, Task.REMOVAL)
    await bus.client.jetstream().delete_consumer(JOB_Q, queue)

    async def there() -> bool:
        return queue in [info.name for info in await bus.client.jetstream().consumers_info(JOB_Q)]

    await wait_until(there, "the consumer is made again")


async def present(bus: Bus) -> set[str]:
    """Return the services that reply to a discovery request, as `nats micro ls` sends it."""
    names: set[str] = set()
    inbox = bus.client.new_inbox()
    answers = await bus.client.subscribe(inbox)
    await bus.client.publish("$SRV.PING", b"", reply=inbox)
    while len(names) < sum(bool(duties.serves) for duties in DUTIES.values()):
        names.add(json.loads((await answers.next_msg(TIMEOUT_S)).data)["name"])
    await answers.unsubscribe()
    return names


async def announce_a_ghost(bus: Bus) -> None:
    """Let a worker take a job and fall silent, which the job manager notices some seconds later."""
    abilities = WorkerAbilities(worker="ghost", engine="e", tasks={}, job="haunted")
    await bus.emit(subjects.WORKERS, abilities.model_dump_json().encode())
    await job_events.publish_event(bus, Started(job_id="haunted", worker="ghost", engine="e", attempt=1))


async def is_reported_lost(bus: Bus) -> bool:
    return await bus.last(JOB_EV, subjects.event("haunted", "returned")) is not None


async def lose_a_worker(stack: LockedStack, bus: Bus) -> None:
    """Drain a worker and stop it at work: its job becomes a dead letter, another worker starts, and it runs again."""
    photo = Image.open(io.BytesIO(CAT)).resize((2048, 1366))
    mask = mask_png(photo.size, (300, 100, 1700, 1300))
    order = {"image": await upload(stack.client, saved(photo)), "mask": await upload(stack.client, mask)}
    job_id = await ordered(stack, task="removal", **order)

    async def has_started() -> bool:
        return bool((await stack.client.get(f"/v1/jobs/{job_id}")).json()["status"] == "running")

    await wait_until(has_started, "the worker is at it")
    (worker,) = (await stack.client.get("/v1/health")).json()["services"]["generation"]["instances"]
    drain = subjects.drain(worker["instance"])
    reply = await rpc.call(bus, drain, DrainRequest(), DrainReply, timeout_s=TIMEOUT_S)
    assert reply.worker == worker["instance"]
    stack.programs["a100worker"].terminate()
    await stack.programs["a100worker"].wait()
    await stack.programs["a100worker"].start()
    assert await wait_for_end(stack, job_id) == "failed"
    redriven = await rpc.call(
        bus, subjects.JOB_REDRIVE, RedriveRequest(job_id=job_id), ReplayReply, timeout_s=TIMEOUT_S
    )
    assert await wait_for_end(stack, str(redriven.jobs[0].new_job_id)) == "done"


def spare(stack: LockedStack) -> dict[str, list[str]]:
    """Return the permissions that the run did not need, by service."""
    found = {}
    for service, said in stack.used().items():
        if service in DUTIES:
            allowed = permissions(service)
            rare = {subject for subject, _ in SPARE_OF.get(service, ())}
            unused = [entry for entry in allowed.publish if not _is_needed(entry, said["PUB"]) and entry not in rare]
            found[service] = unused + [entry for entry in allowed.subscribe if not _is_needed(entry, said["SUB"])]
    return {service: unused for service, unused in found.items() if unused}


def spare_passages(stack: LockedStack) -> list[str]:
    """Return the imports between accounts that the run did not need."""
    used = stack.used()
    accounts = {name: account_of(name) for name in DUTIES} | {OPERATOR: STORE}
    return [
        f"{passage.subject} from {passage.exporter} to {passage.importer}"
        for passage in account_imports()
        if not any(
            _is_needed(passage.subject, used.get(name, {}).get("PUB" if passage.is_request else "SUB", set()))
            for name, account in accounts.items()
            if account == passage.importer
        )
    ]


def _is_needed(entry: str, said: set[str]) -> bool:
    if any(matches(pattern, entry) for pattern, _ in SPARE):
        return True
    # A direct get by its subject may read no more than one by its body.
    same = entry.removesuffix(".>") if matches(subjects.api("DIRECT.GET", ">"), entry) else entry
    return any(matches(entry, subject) or matches(f"{same}.>", subject) or subject == same for subject in said)


@asynccontextmanager
async def operating(stack: LockedStack) -> AsyncIterator[Bus]:
    """Provide the operator's connection."""
    async with open_bus(stack.keys.settings(stack.broker.url, OPERATOR), OPERATOR) as bus:
        yield bus


async def healthy(stack: LockedStack) -> bool:
    answer = await stack.client.get("/v1/health")
    return bool(answer.json()["status"] == "healthy")


async def test_everything_works_and_every_permission_is_needed(tmp_path: Path) -> None:
    """From the first mask to the replay, over a restart of the broker, without one refusal; and nothing is spare."""
    async with locked_stack(tmp_path) as stack, operating(stack) as bus:
        await announce_a_ghost(bus)
        await edit_everything(stack)
        await assemble_one(stack, bus)
        await receive_webhooks(stack)
        await cancel_one(stack)
        await work_as_operator(stack, bus)
        await lose_a_worker(stack, bus)
        await wait_until(lambda: is_reported_lost(bus), "the silent worker is reported")
        await stack.broker.terminate()
        await stack.broker.start()
        await wait_until(lambda: healthy(stack), "all is well again")
        await edit_everything(stack)
        refused, unused, unpassed = stack.violations(), spare(stack), spare_passages(stack)

    assert refused == []
    assert unused == {}
    assert unpassed == []
