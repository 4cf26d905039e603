"""Two users with keys: neither can read, use, change or detect anything that the other one owns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4, uuid5

import pytest
from PIL import Image

from services.gateway.v1.submissions import _KEYS
from shared import rpc, subjects
from shared.messages import DebugSession, JobRecord, JobState, JobSubmit, Mask, MaskReply, MaskRequest, Task
from shared.settings import NatsSettings
from shared.topology import JOB_EV
from tests.gateway import WorkerByHand, b64, mask_png, png, saved
from tests.integration.keyed import keyed_gateway
from tests.v1_client import upload
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from shared.bus import Bus, StoredMessage
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.integration.keyed import House

ROUNDS = 25
ATTEMPTS = 3
PROBES = 1000


@pytest.fixture
async def house(bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path) -> AsyncIterator[House]:
    """Provide a gateway that requires keys, with the users Alice and Bob."""
    assert bus.is_connected
    settings = NatsSettings(url=nats_url)
    async with keyed_gateway(settings, stream_settings, tmp_path, result_wait_s=0.05) as house:
        yield house


@dataclass(frozen=True)
class Things:
    """Hold the names of one user's things, or names that do not exist."""

    running: str  # a job
    done: str  # a job
    photo: str
    mask: str
    session: str  # a debug session
    shot: str  # a file in it
    webhook: str


NONE = "20200101_000000_00000000"


async def things_of_alice(house: House, worker: WorkerByHand, bus: Bus, number: int) -> Things:
    """Give Alice two jobs, two pictures and a debug session."""
    photo = await upload(house.alice, saved(Image.new("RGB", (64, 48), (number, 40, 90))))
    mask = await upload(house.alice, mask_png(box=(number, 1, number + 8, 9)))
    order = {"task": "removal", "image": photo, "mask": mask}
    jobs = [(await house.alice.post("/v1/jobs", json=order)).json()["id"] for _ in range(2)]
    for job in jobs:
        await worker.queue(job)
    result = await worker.finish(jobs[1], saved(Image.new("RGB", (64, 48), (90, number, 40))))
    session = DebugSession(
        name=f"20260301_093000_{number:08}", job_id=jobs[1], user="alice", created_at=1, engine="x", duration_ms=1,
        submit=JobSubmit(task=Task.REMOVAL, image=photo, mask=mask), result=result, images=[],
    )  # fmt: skip
    await bus.publish(subjects.debug_session("alice", session.name), session)
    return Things(jobs[0], jobs[1], photo, mask, session.name, "07_generated_output.png", await webhook_of_alice(house))


async def webhook_of_alice(house: House) -> str:
    """Return Alice's endpoint, made at the first call: a key has at most twenty."""
    listed = (await house.alice.get("/v1/webhooks")).json()["webhooks"]
    made = listed[0] if listed else (await house.alice.post("/v1/webhooks", json={"url": "https://a.example/"})).json()
    return str(made["id"])


def nothing() -> Things:
    """Return names of the same kind that are not in use."""
    return Things(
        str(uuid4()),
        str(uuid4()),
        uuid4().hex * 2,
        uuid4().hex * 2,
        NONE,
        "07_generated_output.png",
        f"wh_{uuid4().hex[:18]}",
    )


def probes(of: Things, bobs_photo: str, bobs_mask: str) -> list[tuple[str, str, Any]]:
    """Return every request that could reach them: method, path, JSON."""
    jobs = [
        (method, path.format(job=job), None)
        for job in (of.running, of.done)
        for method, path in [
            ("GET", "/v1/jobs/{job}"), ("DELETE", "/v1/jobs/{job}"), ("GET", "/v1/jobs/{job}/events"),
            ("DELETE", "/v1/jobs/{job}?purge=true"),
            ("GET", "/v1/jobs/{job}/events?last_event_id=1"), ("GET", "/v1/jobs/{job}/result"),
            ("GET", "/v1/jobs/{job}/receipt"), ("GET", "/api/generate/stream/{job}"),
            ("GET", "/api/generate/status/{job}"), ("GET", "/api/generate/result/{job}"),
            ("GET", "/api/generate/result-image/{job}"), ("POST", "/api/generate/async/cancel/{job}"),
            ("GET", "/api/visualization/{job}/original"), ("GET", "/api/visualization/{job}/generated"),
            ("GET", "/api/visualization/{job}/download"),
        ]
    ]  # fmt: skip
    looks = [
        (method, f"/v1/images/{name}", None) for name in (of.photo, of.mask) for method in ("GET", "HEAD", "DELETE")
    ]
    looks += [("GET", f"/v1/images/{name}/white-balance/estimate", None) for name in (of.photo, of.mask)]
    removal = {"task": "removal", "image": bobs_photo, "mask": bobs_mask}
    insertion = {**removal, "task": "insertion", "reference": bobs_photo}
    uses = [
        ("/v1/jobs", {**removal, "image": of.photo}),
        ("/v1/jobs", {**removal, "mask": of.mask}),
        ("/v1/jobs", {**insertion, "reference": of.photo}),
        ("/v1/jobs", {**insertion, "reference_mask": of.mask}),
        ("/v1/masks", {"image": of.photo, "auto": True}),
        ("/v1/masks", {"image": bobs_photo, "mask": of.mask}),
        ("/v1/extractions", {"image": of.photo, "mask": bobs_mask}),
        ("/v1/extractions", {"image": bobs_photo, "mask": of.mask}),
        ("/api/smart-mask", {"image_id": of.photo, "auto_detect": True}),
        ("/api/smart-mask/detect", {"image_id": of.photo, "auto_detect": True}),
    ]
    sessions = [
        ("GET", f"/api/debug/sessions/{of.session}{rest}", None) for rest in ("", "/download", f"/images/{of.shot}")
    ]
    endpoints = [
        (method, f"/v1/webhooks/{of.webhook}{rest}", body)
        for method, rest, body in [
            ("GET", "", None), ("DELETE", "", None), ("GET", "/attempts", None), ("POST", "/test", None),
            ("POST", "/redeliver", {"job_id": of.done}),
        ]
    ]  # fmt: skip
    return [*jobs, *looks, *endpoints, *(("POST", path, body) for path, body in uses), *sessions]


def describe(answer: httpx.Response, of: Things) -> tuple[int, str, dict[str, str]]:
    """Return the whole answer without the names from the request and without its own ids."""
    own = {"x-request-id", "traceresponse", "date"}
    headers = {name: value for name, value in answer.headers.items() if name not in own}
    return answer.status_code, re.sub("|".join(map(re.escape, vars(of).values())), "?", answer.text), headers


@pytest.mark.timeout(180)
async def test_a_thousand_probes_find_nothing(house: House, bus: Bus, images: NatsImageStore) -> None:
    """Each request is answered as for an unknown name; Alice can still read her things, unchanged."""
    worker = WorkerByHand(bus, images, "alice")
    bobs = await upload(house.bob, png("olive")), await upload(house.bob, mask_png(box=(0, 0, 5, 5)))
    hits: list[str] = []
    sent = 0
    alices = [await things_of_alice(house, worker, bus, number) for number in range(ROUNDS)]
    none = nothing()
    expected = [
        describe(await house.bob.request(method, path, json=body), none) for method, path, body in probes(none, *bobs)
    ]
    for of in alices:
        for (method, path, body), wanted in zip(probes(of, *bobs), expected, strict=True):
            answer = await house.bob.request(method, path, json=body)
            sent += 1
            if answer.is_success and "/detect" not in path:
                hits.append(f"{method} {path}: {answer.status_code}")
            if describe(answer, of) != wanted:
                hits.append(f"{method} {path}: {describe(answer, of)} instead of {wanted}")

    assert sent >= PROBES
    assert hits == []
    for of in alices:
        assert (await house.alice.get(f"/v1/jobs/{of.running}")).json()["status"] == JobState.QUEUED
        assert (await house.alice.get(f"/v1/jobs/{of.done}/result")).status_code == 200
        assert (await house.alice.get(f"/api/debug/sessions/{of.session}")).status_code == 200


async def test_lists_hold_ones_own(house: House, bus: Bus, images: NatsImageStore) -> None:
    """The name stays unknown after Bob has deleted his debug sessions."""
    await things_of_alice(house, WorkerByHand(bus, images, "alice"), bus, 1)
    bobs = [await house.bob.get(path) for path in ("/v1/jobs", "/api/debug/sessions", "/api/debug/status")]
    tidied = (await house.bob.post("/api/debug/cleanup?keep_last_n=0")).json()

    assert [answer.json().get("jobs", []) for answer in bobs] == [[]] * 3
    assert (bobs[1].json()["total"], bobs[2].json()["total_sessions"], tidied["deleted"]) == (0, 0, 0)
    assert (await house.alice.get("/api/debug/sessions")).json()["total"] == 1


async def test_a_job_from_elsewhere_is_its_owners(house: House, bus: Bus) -> None:
    """A job that is published by hand is unknown to Alice: it is in no list of hers, and she cannot cancel it."""
    job = JobSubmit(task=Task.WHITE_BALANCE, image="0" * 64)
    await bus.publish(subjects.submission("interactive", "mallory", "j1"), job)
    record = JobRecord(job_id="j1", user="mallory", state=JobState.QUEUED, created_at=1, updated_at=1, last_seq=1)
    await bus.publish(subjects.job_record("mallory", "j1"), record)
    answers = [
        await house.alice.get("/v1/jobs/j1"),
        await house.alice.delete("/v1/jobs/j1"),
        await house.alice.get("/api/generate/status/j1"),
        await house.alice.get("/api/generate/stream/j1"),
        await house.alice.get("/api/generate/result/j1"),
        await house.alice.post("/api/generate/async/cancel/j1"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 6
    assert (await house.alice.get("/v1/jobs")).json()["jobs"] == []
    assert await bus.history(JOB_EV, subjects.events_of("j1")) == []


async def test_who_sends_the_same_picture_learns_nothing(house: House) -> None:
    """Bob gets 201 though Alice has the picture already; then both own it, and Alice keeps hers."""
    answers = [await client.post("/v1/images", content=png()) for client in (house.alice, house.alice, house.bob)]
    sha256 = answers[0].json()["sha256"]

    assert [answer.status_code for answer in answers] == [201, 200, 201]
    assert [(await client.get(f"/v1/images/{sha256}")).status_code for client in (house.alice, house.bob)] == [200, 200]


async def test_a_mask_belongs_to_who_asked_for_it(house: House, bus: Bus, images: NatsImageStore) -> None:
    """A reused `image_id` belongs to its sender only."""

    async def find(_: MaskRequest) -> MaskReply:
        return MaskReply(masks=[Mask(png=await images.put("cache", png("white", mode="L")), score=0.9)], engine="x")

    async with rpc.serve(bus, "segmentation", [rpc.Endpoint(subjects.SEG_MASK, MaskRequest, find)]):
        photo = await upload(house.alice, png())
        mask = (await house.alice.post("/v1/masks", json={"image": photo, "auto": True})).json()["sha256"]
        again = [
            (await client.post("/api/smart-mask", json={"image_id": photo, "auto_detect": True})).status_code
            for client in (house.alice, house.bob)
        ]

    assert [(await client.get(f"/v1/images/{mask}")).status_code for client in (house.alice, house.bob)] == [200, 404]
    assert again == [200, 404]


async def test_a_question_can_be_taken_back_by_who_asked_it(house: House, bus: Bus, images: NatsImageStore) -> None:
    """Bob gets the same answer, and no message reaches the bus."""
    cancelled: list[str] = []

    async def find(_: MaskRequest) -> MaskReply:
        return MaskReply(masks=[Mask(png=await images.put("cache", png("white", mode="L")), score=0.9)], engine="x")

    async with (
        rpc.serve(bus, "segmentation", [rpc.Endpoint(subjects.SEG_MASK, MaskRequest, find)]),
        bus.subscribe(subjects.SEG_CANCEL, lambda word: cancelled.append(subjects.request_of_cancel(word.subject))),
    ):
        await bus.client.flush()  # the gateway publishes on another connection
        asked = (await house.alice.post("/api/smart-mask", json={"image": b64(png()), "auto_detect": True})).json()
        path = f"/api/smart-mask/cancel/{asked['request_id']}"
        answers = [await client.post(path) for client in (house.bob, house.alice)]
        await wait_until(lambda: cancelled, "somebody has heard of it")

    assert answers[0].json() == answers[1].json()
    assert cancelled == [asked["request_id"]]


async def test_the_key_of_an_order_is_ones_own(house: House) -> None:
    """The same Idempotency-Key of another user is another job, and its computed id opens nothing."""
    ids = []
    for client in (house.alice, house.bob):
        order = {"task": "white-balance", "image": await upload(client, png())}
        answer = await client.post("/v1/jobs", json=order, headers={"Idempotency-Key": "order-1"})
        ids.append((answer.status_code, answer.json()["id"]))
    computed = str(uuid5(_KEYS, "alice/order-1"))

    assert [status for status, _ in ids] == [202, 202]
    assert ids[0][1] == computed != ids[1][1]
    assert (await house.bob.get(f"/v1/jobs/{computed}")).status_code == 404


async def test_a_signed_address_is_its_owners(house: House, bus: Bus, images: NatsImageStore) -> None:
    """Bob may sign the address of Alice's result; it opens nothing, because he has no result of that name."""
    of = await things_of_alice(house, WorkerByHand(bus, images, "alice"), bus, 1)
    for path in (f"/v1/jobs/{of.done}/result", f"/v1/images/{of.photo}", f"/api/generate/stream/{of.done}"):
        urls = [
            (await client.post("/v1/signed-urls", json={"path": path})).json()["url"]
            for client in (house.alice, house.bob)
        ]

        assert [(await house.nobody.get(url)).status_code for url in urls] == [200, 404]


class Ear:
    """Record the gateway's requests to the broker."""

    def __init__(self, house: House) -> None:
        self._bob = house.bob
        self._heard: list[str] = []
        self._own: set[str] = set()

    def hear(self, word: StoredMessage) -> None:
        """Record one request."""
        self._heard.append(f"{word.subject} {word.data.decode()}")

    async def hears(self) -> bool:
        """Return whether the subscription is active; a new one may miss the first messages."""
        await self._ask()
        return bool(self._heard)

    async def _ask(self) -> str:
        """Ask for a name that nothing has, and return it; the gateway reads it in several requests."""
        name = uuid4().hex * 2
        self._own.add(name)
        await self._bob.head(f"/v1/images/{name}")
        return name

    async def questions(self, method: str, path: str, body: Any) -> list[str]:
        """Return the broker requests of Bob's request, without names."""
        names = re.compile(r"[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f-]{27}|wh_[0-9a-f]+")
        self._heard.clear()
        await self._bob.request(method, path, json=body)
        last = await self._ask()  # the subscription gets requests in order
        await wait_until(lambda: last in "".join(self._heard), "all questions have been heard")
        return sorted(names.sub("?", each) for each in self._heard if not self._own.intersection(names.findall(each)))


async def test_not_even_the_time_of_an_answer_tells(house: House, bus: Bus, images: NatsImageStore) -> None:
    """An unknown name and the name of another user's thing cost the same reads, by number and kind.

    Also once the gateway remembers it: Alice has just looked.
    """
    worker = WorkerByHand(bus, images, "alice")
    bobs = await upload(house.bob, png("olive")), await upload(house.bob, mask_png(box=(0, 0, 5, 5)))
    # The store looks for Bob's own images once a minute. After this look, neither request of a pair causes another one.
    await house.bob.post("/v1/jobs", json={"task": "removal", "image": bobs[0], "mask": bobs[1]})
    # A debug session costs one read, under the owner's own subject.
    suspects = {number for number, (_, path, _) in enumerate(probes(nothing(), *bobs)) if "/debug/" not in path}
    equal: set[int] = set()  # pairs that cost the same reads, at least one
    ear = Ear(house)
    async with bus.subscribe("$JS.API.>", ear.hear):
        await wait_until(ear.hears, "the ear hears something")
        # A timer of the gateway, or a read that is sent again after two seconds, may add a request to one of a pair.
        # So a pair that differs is compared again, with new names: a leak differs each time.
        for attempt in range(1, ATTEMPTS + 1):
            of, none = await things_of_alice(house, worker, bus, attempt), nothing()
            await house.alice.get(f"/v1/jobs/{of.done}")
            await house.alice.get(f"/v1/jobs/{of.done}/result")
            pairs = list(zip(probes(of, *bobs), probes(none, *bobs), strict=True))
            reads = {number: [await ear.questions(*probe) for probe in pairs[number]] for number in sorted(suspects)}
            suspects = {number for number, (real, unreal) in reads.items() if real != unreal}
            equal |= {number for number, (real, _) in reads.items() if real and number not in suspects}
            if not suspects:
                break

    leaks = [
        f"{pairs[number][0][:2]}: {real} instead of {unreal}"
        for number, (real, unreal) in reads.items()
        if number in suspects
    ]
    assert not leaks, "\n".join(leaks)  # pytest cuts long lists
    assert len(equal) > 30


async def test_the_probes_reach_every_address_with_a_name_in_it(house: House) -> None:
    """Every route has a probe here; add one with each new route."""
    asked = {(method, path.partition("?")[0]) for method, path, _ in probes(nothing(), "x", "x")}
    asked.add(("POST", "/api/smart-mask/cancel/x"))  # has a test of its own
    templates = set()
    for document in ("/v1/openapi.json", "/openapi.json"):
        paths = (await house.alice.get(document)).json()["paths"]
        templates |= {(method.upper(), path) for path in paths if "{" in path for method in paths[path]}
    shapes = {(method, path): re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for method, path in templates}
    missing = {
        name for name, shape in shapes.items()
        if not any(method == name[0] and shape.fullmatch(path) for method, path in asked)
    }  # fmt: skip

    assert len(templates) > 15
    assert missing == set()
