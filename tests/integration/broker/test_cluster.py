"""Three servers, three copies: accepted messages survive the loss of any server, and no client gets an error."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from shared import declaring, subjects
from shared.bus import StoredMessage, open_bus
from shared.deliveries import pull
from shared.errors import BrokerUnavailable
from shared.messages import JobClass, Task
from shared.settings import StreamSettings
from shared.topology import JOB_EV, JOB_LOG, JOB_Q, worker_consumer
from tests.cluster_load import BODY, Load, in_step, wait_until_up_to_date
from tests.keys import Keys, cluster, connect
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nats.aio.msg import Msg

    from shared.bus import Bus
    from shared.deliveries import Delivery
    from tests.keys import Node

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
SETTINGS = StreamSettings(replicas=3, picture_bytes=1024**3)


@pytest.fixture
async def nodes(keys: Keys, tmp_path: Path) -> AsyncIterator[list[Node]]:
    """Three servers."""
    async with cluster(keys, tmp_path) as nodes:
        yield nodes


@pytest.fixture
async def bus(nodes: list[Node], keys: Keys) -> AsyncIterator[Bus]:
    """Connect to all servers after each stream is declared and each copy is up to date."""
    async with open_bus(keys.settings(",".join(node.url for node in nodes), "operator"), "operator") as bus:
        await wait_until_up_to_date(bus, SETTINGS)
        yield bus


async def test_nothing_is_lost_when_the_leader_dies(nodes: list[Node], bus: Bus) -> None:
    """The others elect a new one; each submit that was accepted is logged once, and none was refused."""
    load = Load(bus)
    cluster = (await bus.client.jetstream().stream_info(JOB_LOG)).cluster
    assert cluster is not None
    leader = next(node for node in nodes if node.name == cluster.leader)
    async with load.under_way():
        await leader.kill()
        await load.goes_on()

    assert load.errors == []
    assert await load.lost() == []
    await leader.start()
    await wait_until(lambda: in_step(bus), "the dead one has caught up")


async def test_a_rolling_restart_is_not_noticed(nodes: list[Node], bus: Bus) -> None:
    """One server after the other, each waiting until the last one has caught up."""
    load = Load(bus)
    async with load.under_way():
        for node in nodes:
            await node.terminate()
            await node.start()
            await wait_until(lambda: in_step(bus), f"{node.name} has caught up")

    assert load.errors == []
    assert await load.lost() == []


async def test_what_was_stored_is_read_at_once(bus: Bus) -> None:
    """By each kind of read, although the replica that serves it may be behind."""
    misses: Counter[str] = Counter()
    for number in range(300):
        subject = subjects.submission("interactive", "u1", f"j{number}")
        seq = await bus.publish(subject, BODY, msg_id=f"m{number}")
        stored = StoredMessage(seq, subject, BODY, f"m{number}")
        misses["last"] += await bus.last(JOB_LOG, subject) != stored
        subject = subjects.submission("batch", "u1", f"j{number}")
        seq = await bus.publish(subject, BODY, msg_id=f"n{number}")
        stored = StoredMessage(seq, subject, BODY, f"n{number}")
        misses["get"] += await bus.get(JOB_LOG, seq) != stored
        seq = await bus.publish(subject, BODY)
        misses["first"] += await bus.first(JOB_LOG, subject, after=seq - 1) != StoredMessage(seq, subject, BODY)
        seq = await bus.publish(subject, BODY)
        misses["history"] += (await bus.history(JOB_LOG, subject))[-1].seq != seq

    assert not +misses, misses


async def test_three_copies_are_as_declared(bus: Bus) -> None:
    """A single copy is a weakness, and the sentence has the command that corrects it."""
    jetstream = bus.client.jetstream()
    await jetstream.update_stream((await jetstream.stream_info(JOB_LOG)).config.evolve(num_replicas=1))

    assert await declaring.find_weaknesses(bus, SETTINGS) == [
        "JOB_LOG has num_replicas 1 instead of 3; correct it with `nats stream edit JOB_LOG --replicas=3 -f`."
    ]


@pytest.mark.parametrize("first", [0, 1, 2])
async def test_accounts_span_the_servers(nodes: list[Node], bus: Bus, keys: Keys, first: int) -> None:
    """Services at three servers store, read, pull, subscribe and call, wherever the leader of a stream is."""
    at = [nodes[(first + number) % 3] for number in range(3)]
    live: list[str] = []
    wanted = [f"live.ev.j1.{kind}" for kind in ("started", "progress")]

    async def answer(question: Msg) -> None:
        await question.respond(b"seen")

    async with (
        connect(keys, at[0], "gateway") as gateway,
        connect(keys, at[1], "a100worker") as worker,
        connect(keys, at[2], "segmentation") as segmentation,
        gateway.subscribe(subjects.LIVE_EVENTS, lambda stored: live.append(stored.subject)),
    ):
        await segmentation.client.subscribe(subjects.SEG_MASK, cb=answer)
        await wait_until(lambda: is_answered(gateway, subjects.SEG_MASK), "one service has answered another")
        await wait_until(lambda: told_of(worker, "j0", live), "the gateway hears what the worker tells")
        await bus.publish(subjects.queue_entry("interactive", Task.REMOVAL, "ann", "j1"), BODY)
        delivery = await next_in(worker, worker_consumer(JobClass.INTERACTIVE, Task.REMOVAL))
        await delivery.extend()
        for kind in ("started", "progress"):
            await worker.publish(subjects.event("j1", kind), b"{}", msg_id=kind)
        await delivery.ack()
        await gateway.publish(subjects.submission("interactive", "ann", "j1"), BODY)
        told = [stored.subject for stored in await gateway.history(JOB_EV, subjects.events_of("j1"))]
        await wait_until(lambda: set(wanted) <= set(live), "the gateway has heard both")

    assert told == [subjects.event("j1", kind) for kind in ("started", "progress")]
    assert [subject for subject in live if ".j1." in subject] == wanted
    await wait_until(lambda: is_empty(bus, JOB_Q), "all copies have settled the job")


async def is_empty(bus: Bus, stream: str) -> bool:
    return await bus.subjects_in(stream, ">") == []


async def is_answered(bus: Bus, subject: str) -> bool:
    """Return whether the service replies; a new subscription takes a moment to reach the other servers."""
    try:
        return (await bus.request(subject, timeout_s=1)).data == b"seen"
    except BrokerUnavailable:
        return False


async def told_of(worker: Bus, job_id: str, live: list[str]) -> bool:
    await worker.publish(subjects.event(job_id, "progress"), b"{}")
    return bool(live)


async def next_in(worker: Bus, consumer: str) -> Delivery:
    """Return the waiting message; a consumer gets it a moment after it was stored."""
    taken: list[Delivery] = []

    async def found() -> bool:
        delivery = await pull(worker, JOB_Q, consumer, wait_s=1)
        taken.extend([delivery] if delivery else [])
        return bool(taken)

    await wait_until(found, "a job is delivered")
    return taken[0]
