"""The subjects that a broker with the users of deploy/credentials.py refuses to each service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from deploy.permissions import DUTIES, OPERATOR, inbox_of, permissions
from shared import declaring, subjects
from shared.bus import open_bus
from shared.errors import BrokerUnavailable, ConfigError
from shared.messages import JobClass, Task
from shared.settings import NatsSettings, StreamSettings
from shared.topology import JOB_EV, JOB_LOG, JOB_Q, build_topology
from tests.keys import Keys, connect, matches, run_locked
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.keys import Node

SETTINGS = StreamSettings(picture_bytes=1024**3)
STREAMS = [str(stream.name) for stream in build_topology(SETTINGS).streams]
CONSUMERS = [(stream, str(consumer.durable_name)) for stream, consumer in build_topology(SETTINGS).consumers]
MANAGING = ("STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.INFO", "STREAM.MSG.GET",
            "STREAM.MSG.DELETE", "STREAM.SNAPSHOT", "STREAM.RESTORE", "DIRECT.GET", "CONSUMER.CREATE",
            "CONSUMER.LIST")  # fmt: skip
CONSUMING = ("CONSUMER.CREATE", "CONSUMER.DURABLE.CREATE", "CONSUMER.DELETE", "CONSUMER.MSG.NEXT", "CONSUMER.RESET",
             "CONSUMER.PAUSE", "CONSUMER.INFO")  # fmt: skip


def everything() -> Iterator[str]:
    """Yield one subject for each purpose on the bus, of any service."""
    for service in DUTIES:
        for pattern in (*permissions(service).publish, *permissions(service).subscribe):
            yield pattern.replace("*", "x").replace(">", "x")
        yield inbox_of(service).replace(">", "x")
    yield from (subjects.api(verb, stream) for verb in MANAGING for stream in STREAMS)
    yield from (subjects.api(verb, *names) for verb in CONSUMING for names in CONSUMERS)
    yield from (subjects.acknowledgements(*names).replace(">", "1.1.1.1.0") for names in CONSUMERS)
    yield from ("$SYS.REQ.SERVER.PING", "$JS.API.INFO", "$JS.API.SERVER.REMOVE", "_INBOX.x", "job.q.x", "anything")


def foreign(allowed: tuple[str, ...]) -> list[str]:
    return sorted({subject for subject in everything() if not any(matches(pattern, subject) for pattern in allowed)})


@pytest.fixture
async def node(keys: Keys, tmp_path: Path) -> AsyncIterator[Node]:
    """Start a locked broker with all streams, created by the job manager."""
    async with run_locked(keys, tmp_path / "store") as node:
        async with open_bus(keys.settings(node.url, "jobmanager"), "jobmanager") as bus:
            await declaring.declare_streams(bus, SETTINGS)
        yield node


def find_refused(node: Node, kind: str) -> set[str]:
    """Return the subjects that the broker refused to publish or subscribe."""
    lines = [line.partition(f"{kind} Violation")[2] for line in node.said]
    return {line.partition('Subject "')[2].partition('"')[0] for line in lines if line}


@pytest.mark.parametrize("service", DUTIES)
async def test_a_service_says_nothing_but_what_it_must(keys: Keys, node: Node, service: str) -> None:
    """It is refused the subjects of all others, and JetStream's API for all other streams and consumers."""
    others = foreign(permissions(service).publish)
    async with connect(keys, node, service) as bus:
        for subject in others:
            await bus.emit(subject, b"{}")
        await bus.client.flush()
        await wait_until(lambda: len(find_refused(node, "Publish")) >= len(others), "the broker has refused")

    assert find_refused(node, "Publish") == set(others)
    assert len(others) > 200


@pytest.mark.parametrize("service", DUTIES)
async def test_a_service_hears_nothing_but_what_it_must(keys: Keys, node: Node, service: str) -> None:
    """Nor does it by a wildcard that takes in more."""
    wide = [">", "*", "_INBOX.>", "job.>", "svc.>", "$JS.>", "$KV.>", "$O.>", "live.>", "ctl.>", "*.*.>", "$SRV.>"]
    others = [inbox_of(user) for user in (*DUTIES, OPERATOR) if user != service]
    narrow = [subject for subject in foreign(permissions(service).subscribe) if " " not in subject]
    async with connect(keys, node, service) as bus:
        for subject in (*wide, *others, *narrow):
            await bus.client.subscribe(subject)
        await bus.client.flush()
        wanted = {*wide, *others, *narrow}
        await wait_until(lambda: len(find_refused(node, "Subscription")) >= len(wanted), "the broker has refused")

    assert find_refused(node, "Subscription") == wanted


@pytest.mark.parametrize("service", DUTIES)
@pytest.mark.parametrize("stream", [JOB_LOG, JOB_Q, JOB_EV, "OBJ_inputs"])
async def test_no_service_deletes_a_stream(keys: Keys, node: Node, service: str, stream: str) -> None:
    """Not even the one that makes them."""
    async with connect(keys, node, service) as bus:
        with pytest.raises(BrokerUnavailable):
            await bus.request(subjects.api("STREAM.DELETE", stream), timeout_s=0.3)
    async with connect(keys, node, OPERATOR) as bus:
        assert str((await bus.client.jetstream().stream_info(stream)).config.name) == stream


async def test_a_worker_reads_no_replies_but_its_own(keys: Keys, node: Node) -> None:
    """Only the gateway receives replies to the gateway."""
    heard: list[bytes] = []
    async with (
        connect(keys, node, "a100worker") as worker,
        connect(keys, node, "segmentation") as segmentation,
        connect(keys, node, "gateway") as gateway,
        worker.subscribe("_INBOX_gateway.>", lambda message: heard.append(message.data)),
        worker.subscribe(">", lambda message: heard.append(message.data)),
    ):

        async def answer(message: object) -> None:
            await message.respond(b"secret")  # type: ignore[attr-defined]

        await segmentation.client.subscribe(subjects.SEG_MASK, cb=answer)
        await segmentation.client.flush()
        await worker.client.flush()
        reply = await gateway.request(subjects.SEG_MASK, b"{}")
        await worker.client.flush()

    assert reply.data == b"secret"
    assert heard == []


async def test_a_worker_submits_and_queues_nothing(keys: Keys, node: Node) -> None:
    """It may publish events of jobs, and end them; it cannot submit a job."""
    async with connect(keys, node, "a100worker") as worker:
        for subject in (
            subjects.submission("interactive", "u1", "j1"),
            subjects.queue_entry(JobClass.BATCH, Task.REMOVAL, "u1", "j1"),
            subjects.event("j1", "queued"),
            subjects.job_record("u1", "j1"),
        ):
            with pytest.raises(BrokerUnavailable):
                await worker.request(subject, b"{}", timeout_s=0.3)
        assert await worker.publish(subjects.end("j1"), b"{}") == 1


async def test_nobody_is_let_in_without_a_key(keys: Keys, node: Node) -> None:
    """Nor with a key that the broker does not know, nor with a name."""
    for user in (NatsSettings(), NatsSettings(user="gateway", password="guessed")):  # noqa: S106
        stranger = user.model_copy(update={"url": node.url, "ca_file": keys.folder / "ca.crt"})
        with pytest.raises(ConfigError):
            async with asyncio.timeout(TIMEOUT_S), open_bus(stranger, "stranger"):
                pass


async def test_the_operator_sees_the_broker_itself(keys: Keys, node: Node) -> None:
    """With the key of the system account, which no service has, and which in turn sees no job."""
    system = keys.settings(node.url, OPERATOR).model_copy(update={"nkey_file": keys.folder / OPERATOR / "system.nk"})
    async with open_bus(system, OPERATOR) as bus:
        told = await bus.request("$SYS.REQ.SERVER.PING", timeout_s=TIMEOUT_S)
        jobs = await bus.request(subjects.api("STREAM.INFO", JOB_LOG), timeout_s=TIMEOUT_S)

    assert b'"artmancer"' in told.data
    assert b"not enabled for account" in jobs.data
