"""Work from a stream: each message is settled once, comes back until it is, and keeps coming over a crash."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from shared import subjects
from shared.declaring import declare_streams
from shared.deliveries import Delivery, consume, pull, redeliver_unsettled
from shared.errors import BrokerUnavailable
from shared.messages import JobClass, Task
from shared.settings import StreamSettings
from shared.topology import ADVISORY, DISPATCHERS, JOB_LOG, JOB_Q, REAPER, worker_consumer
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from services.stack.nats_server import NatsServer
    from shared.bus import Bus

REMOVALS = worker_consumer(JobClass.BATCH, Task.REMOVAL)
DISPATCHER = DISPATCHERS[JobClass.BATCH]


LEASE_S = 3.0


@pytest.fixture
def stream_settings() -> StreamSettings:
    """Three deliveries, and a lease that no stall of the machine outlasts."""
    return StreamSettings(lease_s=30.0, max_handbacks=0, picture_bytes=1024**3)


short_leases = pytest.mark.parametrize(
    "stream_settings", [StreamSettings(lease_s=LEASE_S, max_handbacks=0, picture_bytes=1024**3)], ids=["short leases"]
)


async def queue(bus: Bus, job_id: str = "j1") -> None:
    await bus.publish(subjects.queue_entry("batch", "removal", "u1", job_id), job_id.encode())


async def log(bus: Bus, job_id: str) -> None:
    await bus.publish(subjects.submission("batch", "u1", job_id), job_id.encode())


async def take(bus: Bus) -> Delivery:
    """Take the next delivery as soon as there is one."""
    found: list[Delivery] = []

    async def look() -> bool:
        delivery = await pull(bus, JOB_Q, REMOVALS)
        found.extend([delivery] if delivery else [])
        return bool(found)

    await wait_until(look, "a job is delivered")
    return found[0]


async def left(bus: Bus) -> list[str]:
    """Return the jobs in the queue, delivered or not."""
    return [subjects.parse_queue_entry(subject).job_id for subject in await bus.subjects_in(JOB_Q, subjects.ALL_QUEUED)]


# --- one at a time ------------------------------------------------------------------------------------------------


async def test_an_empty_queue_gives_nothing(bus: Bus) -> None:
    """At once, so that the next queue can be asked."""
    assert await pull(bus, JOB_Q, REMOVALS) is None


async def test_a_message_is_given_to_one_worker_only(bus: Bus) -> None:
    """Two ask, one gets it."""
    await queue(bus)

    answers = await asyncio.gather(*(pull(bus, JOB_Q, REMOVALS, wait_s=0.5) for _ in range(2)))

    (given,) = [answer for answer in answers if answer]
    assert (given.data, given.attempt) == (b"j1", 1)
    assert given.subject == subjects.queue_entry("batch", "removal", "u1", "j1")


async def test_what_is_settled_is_gone(bus: Bus) -> None:
    """`ack` returns when the broker has noted it."""
    await queue(bus)
    delivery = await take(bus)

    await delivery.ack()

    assert await left(bus) == []


async def test_what_is_unusable_is_gone_too(bus: Bus) -> None:
    """`drop` settles without success."""
    await queue(bus)
    delivery = await take(bus)

    await delivery.drop("unreadable")

    async def empty() -> bool:
        return await left(bus) == []

    await wait_until(empty, "the queue is empty")


async def test_what_is_given_back_comes_again(bus: Bus) -> None:
    """Counted, so that the third worker knows that it is the third."""
    await queue(bus)
    attempts = []
    for _ in range(3):
        delivery = await take(bus)
        attempts.append(delivery.attempt)
        await delivery.retry()

    assert attempts == [1, 2, 3]


async def test_what_is_given_back_with_a_delay_lets_others_go_first(bus: Bus) -> None:
    """The next one in the queue does not wait for it."""
    await queue(bus, "j1")
    await queue(bus, "j2")

    await (await take(bus)).retry(3600)

    assert (await take(bus)).data == b"j2"
    assert await pull(bus, JOB_Q, REMOVALS) is None


async def test_what_is_given_back_with_a_delay_comes_when_that_is_over(bus: Bus) -> None:
    """Not before."""
    await queue(bus)
    delivery = await take(bus)
    now = asyncio.get_running_loop().time
    begun = now()

    await delivery.retry(0.3)

    again = await pull(bus, JOB_Q, REMOVALS, wait_s=1.0)
    assert again is not None
    assert again.attempt == 2
    assert now() - begun >= 0.3


@short_leases
async def test_a_dead_workers_message_comes_again(bus: Bus) -> None:
    """It is never settled, so it comes again when its lease ends."""
    await queue(bus)
    await take(bus)

    again = await take(bus)

    assert (again.data, again.attempt) == (b"j1", 2)


@short_leases
async def test_a_lease_that_is_extended_does_not_end(bus: Bus) -> None:
    """For as long as the worker lives, however long the job takes: here, for two leases."""
    await queue(bus)
    delivery = await take(bus)
    now = asyncio.get_running_loop().time
    begun, stolen = now(), []

    async def hold() -> bool:
        await delivery.extend()
        stolen.append(await pull(bus, JOB_Q, REMOVALS))
        return now() - begun > 2 * LEASE_S

    await wait_until(hold, "two leases have passed")

    assert not any(stolen)
    assert (await take(bus)).attempt == 2, "without extension it comes again"


async def test_after_the_last_delivery_the_broker_says_so(bus: Bus) -> None:
    """It stays in the queue, is not delivered any more, and an advisory with its sequence is kept."""
    await queue(bus)
    for _ in range(3):
        await (await take(bus)).retry()
    advisories: list[Delivery] = []

    async def is_advised() -> bool:
        assert await pull(bus, JOB_Q, REMOVALS) is None
        advisories.extend([found] if (found := await pull(bus, ADVISORY, REAPER)) else [])
        return bool(advisories)

    await wait_until(is_advised, "the broker has given up")

    advisory = json.loads(advisories[0].data)
    assert (advisory["stream_seq"], advisory["deliveries"]) == (1, 3)
    assert await left(bus) == ["j1"]


async def test_a_missing_consumer_is_an_error(bus: Bus) -> None:
    """It is not an empty queue: a worker must not wait for messages that cannot come."""
    with pytest.raises(BrokerUnavailable, match="The consumer does not exist"):
        await pull(bus, JOB_Q, "nobody")


# --- as they come -------------------------------------------------------------------------------------------------


class Reader:
    """Consumes in the background and notes each message."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.read: list[str] = []

    async def run(self) -> None:
        """Consume until it is cancelled."""
        async for arrived in consume(self._bus, JOB_LOG, DISPATCHER, batch=10):
            for delivery in arrived:
                self.read.append(delivery.data.decode())
                await delivery.ack_nowait()


async def test_messages_are_consumed_in_order(bus: Bus) -> None:
    """Those that wait, those that come, and more than one pull asks for."""
    names = [f"j{number}" for number in range(45)]
    for name in names[:25]:
        await log(bus, name)
    reader = Reader(bus)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(reader.run(), name="read")
        await wait_until(lambda: len(reader.read) == 25, "what waited is read")
        for name in names[25:]:
            await log(bus, name)
        await wait_until(lambda: len(reader.read) == 45, "what came is read")
        reading.cancel()

    assert reader.read == names


async def test_consuming_goes_on_after_a_crash_of_the_broker(nats_server: NatsServer, bus: Bus) -> None:
    """The consumer continues by itself and does not repeat settled messages."""
    reader = Reader(bus)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(reader.run(), name="read")
        await log(bus, "before")
        await wait_until(lambda: reader.read == ["before"], "the first is read")
        await bus.client.flush()
        before = bus.connects
        await nats_server.kill()
        await nats_server.start()
        await bus.next_connect(before)  # `up` stays set until the client notices
        await log(bus, "after")
        await wait_until(lambda: "after" in reader.read, "the second is read")
        reading.cancel()

    assert reader.read == ["before", "after"]


async def test_a_consumer_that_is_deleted_is_an_error(bus: Bus) -> None:
    """While it is waited on, so that the reader can have it made again."""
    reader = Reader(bus)

    async def delete_soon() -> None:
        await log(bus, "j1")
        await wait_until(lambda: reader.read, "the reader has begun")
        await bus.client.jetstream().delete_consumer(JOB_LOG, DISPATCHER)

    outcome, _ = await asyncio.gather(asyncio.wait_for(reader.run(), TIMEOUT_S), delete_soon(), return_exceptions=True)

    assert isinstance(outcome, BrokerUnavailable)


async def test_what_a_predecessor_held_is_delivered_at_once(bus: Bus, stream_settings: StreamSettings) -> None:
    """It does not wait for its lease of a day; settled messages do not come again."""
    for name in ("settled", "held"):
        await log(bus, name)
    first = await pull(bus, JOB_LOG, DISPATCHER, wait_s=1.0)
    held = await pull(bus, JOB_LOG, DISPATCHER, wait_s=1.0)
    assert first
    assert held
    await first.ack()
    await declare_streams(bus, stream_settings)

    await redeliver_unsettled(bus, JOB_LOG, DISPATCHER)

    again = await pull(bus, JOB_LOG, DISPATCHER, wait_s=1.0)
    assert again is not None
    assert again.data == b"held"
    assert await pull(bus, JOB_LOG, DISPATCHER) is None


async def test_a_job_that_is_handed_back_over_a_restart_does_not_wait_for_its_lease(
    bus: Bus, nats_server: NatsServer
) -> None:
    """The broker confirms it; an unconfirmed one could be lost with the connection."""
    await queue(bus)
    delivery = await take(bus)
    await nats_server.stop()
    await wait_until(lambda: not bus.is_connected, "the client has noticed")
    handing_back = asyncio.create_task(delivery.hand_back(60), name="hand back")
    await nats_server.start()
    await handing_back

    again = await pull(bus, JOB_Q, REMOVALS, wait_s=1.0)
    assert again is not None
    assert again.attempt == 2


async def test_a_job_cannot_be_handed_back_without_a_broker(bus: Bus, nats_server: NatsServer) -> None:
    """The worker stops in time, and the job comes back when its lease ends."""
    await queue(bus)
    delivery = await take(bus)
    await nats_server.kill()
    await wait_until(lambda: not bus.is_connected, "the client has noticed")

    with pytest.raises(BrokerUnavailable):
        await delivery.hand_back(0.3)
