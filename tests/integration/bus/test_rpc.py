"""Requests and replies: run in parallel, refused when there are too many, and every failure comes back as itself."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from shared import errors, rpc, subjects
from shared.bus import open_bus
from shared.errors import ArtMancerError, BadMessage, BrokerUnavailable, Busy, NothingFound, TooLarge, Unavailable
from shared.messages import HealthReply, HealthRequest, QueueQuery, QueueReport, SaliencyReply, SaliencyRequest
from shared.rpc import Endpoint, serve
from shared.settings import NatsSettings
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from services.stack.nats_server import NatsServer
    from shared.bus import Bus

SUBJECT = subjects.health("cook")
FINE = HealthReply(service="cook", instance="c1", status="healthy")


@pytest.fixture
def bus(bare_bus: Bus) -> Bus:
    """Use a bus without streams: requests need none."""
    return bare_bus


@asynccontextmanager
async def cooking(
    bus: Bus, handle: Callable[[HealthRequest], Awaitable[HealthReply]], *, limit: int = 64, drain_s: float = 3.0
) -> AsyncIterator[None]:
    """Serve one endpoint."""
    async with serve(bus, "cook", [Endpoint(SUBJECT, HealthRequest, handle, limit)], drain_s=drain_s):
        yield


async def ask(bus: Bus, timeout_s: float = 20.0) -> HealthReply:
    return await rpc.call(bus, SUBJECT, HealthRequest(), HealthReply, timeout_s=timeout_s)


async def gone(bus: Bus) -> bool:
    """Return whether no service listens on the subject."""
    try:
        await ask(bus, timeout_s=0.1)
    except Unavailable as error:
        return "not running" in error.message
    return False


async def fine(_: HealthRequest) -> HealthReply:
    return FINE


def failing_with(error: Exception) -> Callable[[HealthRequest], Awaitable[HealthReply]]:
    async def fail(_: HealthRequest) -> HealthReply:
        raise error

    return fail


async def test_a_question_is_answered(bus: Bus) -> None:
    """The reply arrives as the message that it was sent as."""
    async with cooking(bus, fine):
        reply = await ask(bus)

    assert reply == FINE


async def test_requests_run_in_parallel(bus: Bus) -> None:
    """Ten requests wait for one another: one at a time, none of them would ever be answered."""
    all_here = asyncio.Barrier(10)

    async def meet(_: HealthRequest) -> HealthReply:
        await all_here.wait()
        return FINE

    async with cooking(bus, meet):
        replies = await asyncio.gather(*(ask(bus) for _ in range(10)))

    assert replies == [FINE] * 10


async def test_beyond_the_limit_the_caller_is_told_at_once(bus: Bus) -> None:
    """Two run, the third is refused; as soon as there is room, the next one runs."""
    running, release = [0], asyncio.Event()

    async def wait(_: HealthRequest) -> HealthReply:
        running[0] += 1
        await release.wait()
        return FINE

    async with cooking(bus, wait, limit=2), asyncio.TaskGroup() as group:
        accepted = [group.create_task(ask(bus), name=f"ask-{number}") for number in range(2)]
        await wait_until(lambda: running[0] == 2, "two requests are running")
        with pytest.raises(Busy):
            await ask(bus)
        release.set()
        await asyncio.wait(accepted)

        assert await ask(bus) == FINE


@pytest.mark.parametrize(
    ("subject", "service"),
    [(subjects.SEG_MASK, "segmentation"), (subjects.IMG_EXTRACT, "image_utils"), (subjects.JOB_QUEUE, "job_manager")],
)
async def test_a_service_that_does_not_run_is_named(bus: Bus, subject: str, service: str) -> None:
    """The user learns which part of the system is down, without waiting for the time-out."""
    with pytest.raises(Unavailable, match=f"The service {service} is not running."):
        await asyncio.wait_for(rpc.call(bus, subject, HealthRequest(), HealthReply, timeout_s=60), 10)


async def test_a_service_that_does_not_answer_is_named(bus: Bus) -> None:
    """After the time-out, and not later."""
    never = asyncio.Event()

    async def say_nothing(_: SaliencyRequest) -> SaliencyReply:
        await never.wait()
        return SaliencyReply(png=None)

    request = SaliencyRequest(image="ab" * 32)
    async with serve(bus, "seg", [Endpoint(subjects.SEG_SALIENCY, SaliencyRequest, say_nothing)], drain_s=0):
        with pytest.raises(Unavailable, match=r"The service segmentation did not answer in time\."):
            await rpc.call(bus, subjects.SEG_SALIENCY, request, SaliencyReply, timeout_s=0.2)


@pytest.mark.parametrize("kind", [NothingFound, errors.TooLarge, errors.ImageNotFound, errors.EngineFailed])
async def test_an_error_crosses_the_wire_as_itself(bus: Bus, kind: type[ArtMancerError]) -> None:
    """Class and sentence are those that the service raised."""
    async with cooking(bus, failing_with(kind("The cat is asleep."))):
        with pytest.raises(ArtMancerError) as raised:
            await ask(bus)

    assert type(raised.value) is kind
    assert raised.value.message == "The cat is asleep."


async def test_a_sentence_may_hold_any_letters(bus: Bus) -> None:
    """User text may be in it, although a header takes only one line of plain text."""
    async with cooking(bus, failing_with(NothingFound("Größe:\r\nX-Evil: 猫 \t is too small."))):
        with pytest.raises(NothingFound, match=r"^Größe: X-Evil: 猫 is too small\.$"):
            await ask(bus)


async def test_a_crash_is_an_answer_too(bus: Bus) -> None:
    """The error reveals nothing of the inside, and the next request is served."""
    crash = [True]

    async def crash_once(_: HealthRequest) -> HealthReply:
        if crash:
            crash.clear()
            raise ZeroDivisionError("/secret/path")
        return FINE

    async with cooking(bus, crash_once):
        with pytest.raises(ArtMancerError, match=r"^Something went wrong\.$"):
            await ask(bus)

        assert await ask(bus) == FINE


async def test_a_wrong_question_is_refused_by_name(bus: Bus) -> None:
    """The sentence names the wrong field, and the handler is not called."""
    async with cooking(bus, fine):
        with pytest.raises(BadMessage, match=r"^The field type is not valid: input should be 'health'\.$"):
            await rpc.call(
                bus, SUBJECT, SaliencyRequest(image="ab" * 32, type="seg.saliency"), HealthReply, timeout_s=TIMEOUT_S
            )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"v": 0}', b"\xff"])
async def test_noise_is_refused(bus: Bus, body: bytes) -> None:
    """Whatever arrives, the answer is a sentence."""
    async with cooking(bus, fine):
        answer = await bus.client.request(SUBJECT, body, timeout=TIMEOUT_S)

    assert (answer.headers or {})["Nats-Service-Error-Code"] == "bad_message"


async def test_a_question_of_a_newer_release_is_not_called_wrong(bus: Bus) -> None:
    """The service is too old, so the caller may try another one. The handler is not called."""
    async with cooking(bus, fine):
        answer = await bus.client.request(SUBJECT, b'{"v": 2, "type": "health", "how": "quickly"}', timeout=TIMEOUT_S)

    assert (answer.headers or {})["Nats-Service-Error-Code"] == "unavailable"
    assert (answer.headers or {})["Nats-Service-Error"].startswith("The service cook is of an older release than its ")


async def test_a_reply_that_fits_into_no_message_is_an_error_at_once(bus: Bus) -> None:
    """The caller does not wait for its timeout, and the service goes on."""

    async def boast(_: HealthRequest) -> HealthReply:
        return HealthReply(service="cook", instance="c1", status="healthy", detail={"menu": "x" * 3 * 1024**2})

    async with cooking(bus, boast):
        for _ in range(2):
            with pytest.raises(TooLarge, match=r"^The reply does not fit into one message; ask for less\.$"):
                await ask(bus)


async def test_a_question_that_came_too_late_is_not_worked_on(bus: Bus) -> None:
    """A caller of 0.1.0 has gone; the next one has not."""
    handled: list[str] = []

    async def note(_: HealthRequest) -> HealthReply:
        handled.append("one")
        return FINE

    async with cooking(bus, note):
        await bus.client.publish(SUBJECT, b"{}", reply=bus.client.new_inbox(), headers={"Deadline-Ms": "1"})
        await ask(bus)

    assert handled == ["one"]


@pytest.mark.parametrize("header", ["Time-Left-Ms", "Deadline-Ms"])
async def test_a_strange_deadline_is_an_error(bus: Bus, header: str) -> None:
    """A header that no client of ours writes gets an answer, not silence."""
    async with cooking(bus, fine):
        answer = await bus.client.request(SUBJECT, b"{}", timeout=TIMEOUT_S, headers={header: "soon"})

    assert (answer.headers or {})["Nats-Service-Error-Code"] == "bad_message"


async def test_what_is_in_flight_is_finished_at_the_end(bus: Bus) -> None:
    """A service that stops takes no more, and still answers whom it has accepted."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: HealthRequest) -> HealthReply:
        begun.set()
        await go_on.wait()
        return FINE

    async def release() -> None:
        await begun.wait()
        await wait_until(lambda: gone(bus), "the service takes no more requests")
        go_on.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(release(), name="release")
        async with cooking(bus, wait, drain_s=10):
            asked = group.create_task(ask(bus), name="ask")
            await begun.wait()

    assert asked.result() == FINE


async def test_what_is_on_its_way_at_the_end_is_answered(bus: Bus, nats_url: str) -> None:
    """The broker routed it before the unsubscribe and does not route it to another instance."""
    at = urlsplit(nats_url)
    reader, writer = await asyncio.open_connection(
        at.hostname, at.port
    )  # only so is it sure in which order it goes out
    question = HealthRequest().model_dump_json().encode()
    asked = f"PUB {SUBJECT} answers {len(question)}\r\n".encode() + question + b"\r\n"
    reply, answered = FINE.model_dump_json(exclude_none=True).encode() + b"\r\n", 0
    async with asyncio.timeout(TIMEOUT_S):
        async with cooking(bus, fine):
            writer.write(b"CONNECT {}\r\nSUB answers 1\r\n" + asked * 50 + b"PING\r\n")
            while (line := await reader.readline()) != b"PONG\r\n":
                answered += line == reply
        while answered < 50:
            answered += await reader.readline() == reply
    writer.close()
    await writer.wait_closed()


async def test_what_is_not_finished_by_then_is_cancelled(bus: Bus) -> None:
    """A stop has a time limit. Its caller learns it at once, and may ask another instance."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_: HealthRequest) -> HealthReply:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return FINE

    async with cooking(bus, hang, drain_s=0.05):
        asked = asyncio.gather(ask(bus, timeout_s=60), return_exceptions=True)
        await begun.wait()
    (answer,) = await asked

    assert cancelled.is_set()
    assert getattr(answer, "code", "") == "stopping"


async def test_instances_share_the_work(bus: Bus, nats_url: str) -> None:
    """Each question is answered by one of them, and both get some."""
    answered = {"c1": 0, "c2": 0}

    def cook(name: str) -> Callable[[HealthRequest], Awaitable[HealthReply]]:
        async def answer(_: HealthRequest) -> HealthReply:
            answered[name] += 1
            return HealthReply(service="cook", instance=name, status="healthy")

        return answer

    async with (
        open_bus(NatsSettings(url=nats_url), "c2") as other,
        cooking(bus, cook("c1")),
        cooking(other, cook("c2")),
    ):
        await asyncio.gather(*(ask(bus) for _ in range(60)))

    assert sum(answered.values()) == 60
    assert min(answered.values()) > 0


async def test_operators_find_the_service(bus: Bus) -> None:
    """`nats micro ls` shows it, with its endpoint."""
    async with cooking(bus, fine):
        info = json.loads((await bus.client.request("$SRV.INFO.cook", b"", timeout=TIMEOUT_S)).data)

    assert info["name"] == "cook"
    assert [endpoint["subject"] for endpoint in info["endpoints"]] == [SUBJECT]


async def test_the_figures_that_operators_see_are_true(bus: Bus) -> None:
    """`nats micro stats`: a request counts with all of its time, an error with its sentence."""
    clock = asyncio.get_running_loop().time
    worked_s = 0.05

    async def work(_: HealthRequest) -> HealthReply:
        until = clock() + worked_s
        await wait_until(lambda: clock() >= until, "the work is done")
        return FINE

    async with cooking(bus, work):
        await asyncio.gather(ask(bus), ask(bus))
        with pytest.raises(BadMessage):
            await rpc.call(bus, SUBJECT, SaliencyRequest(image="ab" * 32), HealthReply, timeout_s=TIMEOUT_S)
        (stats,) = json.loads((await bus.client.request("$SRV.STATS.cook", b"", timeout=TIMEOUT_S)).data)["endpoints"]

    assert (stats["num_requests"], stats["num_errors"]) == (3, 1)
    assert stats["processing_time"] >= 2 * worked_s * 1e9
    assert stats["average_processing_time"] == stats["processing_time"] // 3
    assert stats["last_error"].startswith("bad_message: The field type is not valid")


async def test_a_refused_request_counts_as_an_error(bus: Bus) -> None:
    """The statistics of nats.micro show a busy service."""
    running, release = asyncio.Event(), asyncio.Event()

    async def wait(_: HealthRequest) -> HealthReply:
        running.set()
        await release.wait()
        return FINE

    async with cooking(bus, wait, limit=1), asyncio.TaskGroup() as group:
        group.create_task(ask(bus), name="ask")
        await running.wait()
        with pytest.raises(Busy):
            await ask(bus)
        (stats,) = json.loads((await bus.client.request("$SRV.STATS.cook", b"", timeout=TIMEOUT_S)).data)["endpoints"]
        release.set()

    assert (stats["num_requests"], stats["num_errors"], stats["last_error"].split(":")[0]) == (1, 1, "busy")


async def test_a_service_outlives_its_broker(nats_server: NatsServer, bus: Bus) -> None:
    """After a restart it answers again; until then the caller learns that the broker is away."""
    async with cooking(bus, fine):
        await nats_server.kill()
        await wait_until(lambda: not bus.is_connected, "the client has noticed")
        with pytest.raises(BrokerUnavailable):
            await ask(bus)
        await nats_server.start()
        await bus.up.wait()

        assert await ask(bus) == FINE


async def test_one_service_answers_on_many_subjects(bus: Bus) -> None:
    """Each endpoint has its own question and its own limit."""

    async def report(_: QueueQuery) -> QueueReport:
        return QueueReport(queued={"u1": ["j1"]})

    endpoints: list[Endpoint[Any]] = [
        Endpoint(SUBJECT, HealthRequest, fine),
        Endpoint(subjects.JOB_QUEUE, QueueQuery, report),
    ]
    async with serve(bus, "cook", endpoints):
        answers = [
            await ask(bus),
            await rpc.call(bus, subjects.JOB_QUEUE, QueueQuery(), QueueReport, timeout_s=TIMEOUT_S),
        ]

    assert answers == [FINE, QueueReport(queued={"u1": ["j1"]})]
