"""The bus: an acknowledged message is stored once, also over a crash; reads are complete and leave nothing behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from shared import subjects
from shared.bus import StoredMessage, open_bus
from shared.declaring import declare_streams
from shared.errors import BrokerUnavailable, StreamFull, WrongLastSequence
from shared.messages import Cancelled, Started
from shared.settings import NatsSettings, StreamSettings
from shared.topology import JOB_DLQ, JOB_EV, JOB_Q, bucket_stream
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.stack.nats_server import NatsServer
    from shared.bus import Bus


def letters(number: int) -> str:
    """Return a subject of a stream without republishing or limits on a subject."""
    return subjects.dead_letter("test", f"j{number}")


# --- publish ------------------------------------------------------------------------------------------------------


async def test_a_publish_returns_where_the_message_is(bus: Bus) -> None:
    """The sequence is the proof that the broker has it."""
    seq = await bus.publish(letters(1), b"one")

    assert await bus.get(JOB_DLQ, seq) == StoredMessage(seq, letters(1), b"one")


async def test_a_model_travels_without_what_is_not_set(bus: Bus) -> None:
    """One line of JSON, so that an operator can read it and send it again."""
    event = Cancelled(job_id="j1", at=1.5)

    await bus.publish(subjects.end("j1"), event)
    stored = await bus.last(JOB_EV, subjects.end("j1"))

    assert stored is not None
    assert stored.data == b'{"v":1,"job_id":"j1","at":1.5,"type":"cancelled"}'


async def test_the_same_message_is_stored_once(bus: Bus) -> None:
    """A retry under the same id gets the answer of the first attempt."""
    first = await bus.publish(letters(1), b"one", msg_id="m1")
    again = await bus.publish(letters(1), b"one", msg_id="m1")

    assert again == first
    assert len(await bus.history(JOB_DLQ, subjects.ALL_DEAD)) == 1


async def test_a_writer_with_an_old_view_is_refused(bus: Bus) -> None:
    """`expect_last` is compare and swap."""
    first = await bus.publish(letters(1), b"one")
    await bus.publish(letters(1), b"two", expect_last=first)

    with pytest.raises(WrongLastSequence):
        await bus.publish(letters(1), b"three", expect_last=first)


@pytest.mark.parametrize("stream_settings", [StreamSettings(queue_limit=2, picture_bytes=1024**3)])
async def test_a_full_stream_refuses(bus: Bus) -> None:
    """The caller gets the error at once."""
    for number in (1, 2):
        await bus.publish(subjects.queue_entry("batch", "removal", "u1", f"j{number}"), b"{}")

    with pytest.raises(StreamFull):
        await bus.publish(subjects.queue_entry("batch", "removal", "u1", "j3"), b"{}")


async def test_a_job_is_queued_once(bus: Bus) -> None:
    """The queue holds at most one message of each job."""
    await bus.publish(subjects.queue_entry("batch", "removal", "u1", "j1"), b"{}")

    with pytest.raises(StreamFull):
        await bus.publish(subjects.queue_entry("batch", "removal", "u1", "j1"), b"{}")


# --- exactly one terminal event -----------------------------------------------------------------------------------


async def test_of_two_that_end_a_job_exactly_one_succeeds(bus: Bus, nats_url: str) -> None:
    """Fifty races between two connections, each settled by the broker."""

    async def end(mine: Bus, job_id: str, who: str) -> bool:
        try:
            await mine.publish_first(JOB_EV, subjects.end(job_id), Cancelled(job_id=job_id), msg_id=f"{job_id}-{who}")
        except WrongLastSequence:
            return False
        return True

    async with open_bus(NatsSettings(url=nats_url), "rival") as rival:
        races = [(end(bus, f"j{number}", "a"), end(rival, f"j{number}", "b")) for number in range(50)]
        wins = [sum(await asyncio.gather(*race)) for race in races]

    assert wins == [1] * 50
    assert len(await bus.history(JOB_EV, subjects.ALL_EVENTS)) == 50


async def test_a_winner_whose_answer_was_lost_still_wins(bus: Bus) -> None:
    """The second attempt of the same message finds itself in first place."""
    first = await bus.publish_first(JOB_EV, subjects.end("j1"), Cancelled(job_id="j1"), msg_id="mine")
    again = await bus.publish_first(JOB_EV, subjects.end("j1"), Cancelled(job_id="j1"), msg_id="mine")

    assert again == first


# --- a broker that dies -------------------------------------------------------------------------------------------


async def test_nothing_acknowledged_is_lost_over_a_crash(nats_server: NatsServer, bus: Bus) -> None:
    """SIGKILL in the middle of a stream of publishes: each that returned is stored, and each is stored once."""
    acknowledged: dict[int, int] = {}

    async def publish(worker: int) -> None:
        for number in range(worker, 400, 8):
            while number not in acknowledged:  # one that gave up, as the restart took too long, is sent again
                with suppress(BrokerUnavailable):
                    acknowledged[number] = await bus.publish(letters(number), b"x", msg_id=f"m{number}")

    async with asyncio.TaskGroup() as group:
        for worker in range(8):
            group.create_task(publish(worker), name=f"publish-{worker}")
        await wait_until(lambda: len(acknowledged) >= 80, "some are stored")
        await nats_server.kill()
        await nats_server.start()
    stored = {message.seq: message.subject for message in await bus.history(JOB_DLQ, subjects.ALL_DEAD)}

    assert len(acknowledged) == 400
    assert stored == {seq: letters(number) for number, seq in acknowledged.items()}


@pytest.mark.parametrize(
    "use",
    [
        lambda bus: bus.last(JOB_EV, subjects.end("j1")),
        lambda bus: bus.get(JOB_EV, 1),
        lambda bus: bus.first(JOB_EV, subjects.ALL_EVENTS),
        lambda bus: bus.history(JOB_EV, subjects.ALL_EVENTS),
        lambda bus: bus.delete(JOB_EV, 1),
        lambda bus: bus.purge(JOB_EV, subjects.ALL_EVENTS),
        lambda bus: bus.subjects_in(JOB_EV, subjects.ALL_EVENTS),
        lambda bus: bus.emit(subjects.seg_cancel("r1")),
        lambda bus: bus.publish(letters(1), b"x", deadline_s=0.3),
    ],
    ids=["last", "get", "first", "history", "delete", "purge", "subjects_in", "emit", "publish"],
)
async def test_without_a_broker_there_is_an_error_at_once(
    nats_server: NatsServer, bus: Bus, use: Callable[[Bus], Awaitable[object]]
) -> None:
    """No call hangs; a publish does not wait longer than its deadline."""
    await nats_server.kill()
    await wait_until(lambda: not bus.is_connected, "the client has noticed")

    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(use(bus), 5)


async def test_a_publish_gives_up_on_a_broker_that_stays_away(nats_server: NatsServer, bus: Bus) -> None:
    """A restart takes less than a second, so a few are waited for and no more, whatever the deadline is."""
    await nats_server.kill()
    await wait_until(lambda: not bus.is_connected, "the client has noticed")

    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(bus.publish(letters(1), b"x", deadline_s=60), 15)


async def test_each_reader_learns_of_a_reconnect(nats_server: NatsServer, bus: Bus) -> None:
    """A subscriber that missed live messages can read again, each in its own time, and none misses a reconnect."""
    before = bus.connects
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(bus.next_connect(before), name=f"wait-{number}") for number in range(2)]
        await nats_server.kill()
        await nats_server.start()

    assert [wait.result() for wait in waits] == [before + 1, before + 1]
    assert await bus.next_connect(0) == before + 1


async def test_a_subscription_outlives_the_broker(nats_server: NatsServer, bus: Bus) -> None:
    """After a restart live messages arrive again."""
    heard: list[StoredMessage] = []
    async with bus.subscribe(subjects.LIVE_EVENTS, heard.append):
        before = bus.connects
        await nats_server.kill()
        await nats_server.start()
        await bus.next_connect(before)
        seq = await bus.publish(subjects.end("j1"), Cancelled(job_id="j1"))
        await wait_until(lambda: heard, "the event is heard")

    assert [message.seq for message in heard] == [seq]


async def test_a_service_may_start_before_its_broker(nats_server: NatsServer, bus: Bus) -> None:
    """With `wait=False` every call raises BrokerUnavailable until the broker starts."""
    assert bus.is_connected
    await nats_server.kill()

    async with open_bus(NatsSettings(url=nats_server.url), "early", wait=False) as early:
        with pytest.raises(BrokerUnavailable):
            await early.publish(letters(1), b"x", deadline_s=0.1)
        await nats_server.start()
        await early.up.wait()

        assert await early.publish(letters(1), b"x") == 1


async def test_a_bus_that_never_connects_can_be_closed(nats_server: NatsServer) -> None:
    """A service that is stopped while it waits for its broker stops."""
    url = nats_server.url
    await nats_server.kill()

    async with open_bus(NatsSettings(url=url), "hopeless", wait=False) as hopeless:
        with pytest.raises(BrokerUnavailable):
            await hopeless.publish(letters(1), b"x", deadline_s=0.3)

    assert not hopeless.is_connected


async def test_a_cancel_is_never_lost(bus: Bus) -> None:
    """A cancellation takes effect, also if it comes in the same moment as a reply."""

    async def ask_for_ever() -> None:
        while True:
            await bus.last(JOB_EV, subjects.end("j1"))

    loops = [asyncio.create_task(ask_for_ever(), name=f"ask-{number}") for number in range(200)]
    for loop in loops:
        await bus.last(JOB_EV, subjects.end("j1"))
        loop.cancel()
    _, running = await asyncio.wait(loops, timeout=TIMEOUT_S)
    for loop in running:
        loop.cancel()

    assert not running


# --- reads --------------------------------------------------------------------------------------------------------


async def test_a_history_is_read_in_order(bus: Bus) -> None:
    """One subject pattern, oldest first, from any point on."""
    for number in (1, 2, 3):
        await bus.publish(subjects.event("j1", "started"), start_event("j1", number))
        await bus.publish(subjects.event("j2", "started"), start_event("j2", number))

    whole = await bus.history(JOB_EV, subjects.events_of("j1"))
    rest = await bus.history(JOB_EV, subjects.events_of("j1"), after=whole[0].seq)

    assert [message.seq for message in whole] == [1, 3, 5]
    assert rest == whole[1:]


async def test_a_history_of_many_messages_is_read_whole(bus: Bus) -> None:
    """More than the broker answers at a time."""
    async with asyncio.TaskGroup() as group:
        for number in range(1500):
            once = f"m{number}"  # all at once, so the last may be sent again before their answers come
            group.create_task(bus.publish(letters(number), b"x", msg_id=once), name=f"publish-{number}")

    found = await bus.history(JOB_DLQ, subjects.ALL_DEAD)

    assert [message.seq for message in found] == list(range(1, 1501))


async def test_a_history_of_large_messages_is_read_whole(bus: Bus) -> None:
    """The broker also ends an answer after so many bytes: here, after a part of 30 MB."""
    subject = subjects.object_chunks("debug", "n1")
    for number in range(60):
        await bus.publish(subject, bytes([number]) * 500_000)

    found = await bus.history(bucket_stream("debug"), subject)

    assert [message.data[0] for message in found] == list(range(60))


async def test_the_newest_and_the_oldest_are_found(bus: Bus) -> None:
    """By exact subject and by pattern."""
    first = await bus.publish(subjects.event("j1", "started"), start_event("j1", 1))
    second = await bus.publish(subjects.event("j1", "started"), start_event("j1", 2))

    newest = await bus.last(JOB_EV, subjects.event("j1", "started"))
    oldest = await bus.first(JOB_EV, subjects.events_of("j1"))
    next_one = await bus.first(JOB_EV, subjects.events_of("j1"), after=first)

    assert [message and message.seq for message in (newest, oldest, next_one)] == [second, first, second]


async def test_what_is_not_there_is_none(bus: Bus) -> None:
    """Nothing stored is an answer, not an error."""
    answers = [
        await bus.last(JOB_EV, subjects.end("j1")),
        await bus.get(JOB_EV, 7),
        await bus.first(JOB_EV, subjects.events_of("j1")),
        await bus.history(JOB_EV, subjects.events_of("j1")),
    ]

    assert answers == [None, None, None, []]


@pytest.mark.parametrize(
    "read",
    [
        lambda bus: bus.last(JOB_EV, subjects.end("j1")),
        lambda bus: bus.get(JOB_EV, 1),
        lambda bus: bus.first(JOB_EV, subjects.ALL_EVENTS),
        lambda bus: bus.history(JOB_EV, subjects.ALL_EVENTS),
    ],
    ids=["last", "get", "first", "history"],
)
async def test_a_stream_that_cannot_answer_is_not_an_empty_one(
    bare_bus: Bus, read: Callable[[Bus], Awaitable[object]]
) -> None:
    """A job must not look unknown, nor a picture expired, while a cluster elects a leader."""
    with pytest.raises(BrokerUnavailable):
        await read(bare_bus)


async def test_reads_leave_no_consumer_behind(bus: Bus) -> None:
    """Direct get needs none."""
    await bus.publish(subjects.end("j1"), Cancelled(job_id="j1"))
    before = await bus.client.jetstream().consumers_info(JOB_EV)

    await bus.history(JOB_EV, subjects.ALL_EVENTS)
    after = await bus.client.jetstream().consumers_info(JOB_EV)

    assert [consumer.name for consumer in after] == [consumer.name for consumer in before]


# --- the rest -----------------------------------------------------------------------------------------------------


async def test_a_stored_event_is_heard_live_with_its_sequence(bus: Bus) -> None:
    """Live and history fit together: both name the same place."""
    heard: list[StoredMessage] = []
    async with bus.subscribe(subjects.LIVE_EVENTS, heard.append):
        seq = await bus.publish(subjects.end("j1"), Cancelled(job_id="j1", at=1.0))
        await wait_until(lambda: heard, "the event is heard")

    stored = await bus.get(JOB_EV, seq)
    assert stored is not None
    assert heard == [StoredMessage(seq, subjects.live_end("j1"), stored.data)]


async def test_after_its_block_a_subscription_hears_nothing(bus: Bus) -> None:
    """The callback is not called after the block."""
    early: list[StoredMessage] = []
    late: list[StoredMessage] = []
    async with bus.subscribe(subjects.SEG_CANCEL, early.append):
        pass

    async with bus.subscribe(subjects.SEG_CANCEL, late.append):
        await bus.emit(subjects.seg_cancel("r1"))
        await wait_until(lambda: late, "the other one has heard it")

    assert early == []


async def test_entries_are_listed_and_removed(bus: Bus) -> None:
    """Delete one by its sequence, many by their pattern; deleting a missing message is harmless."""
    for user, job in (("u1", "j1"), ("u1", "j2"), ("u2", "j3")):
        await bus.publish(subjects.queue_entry("batch", "removal", user, job), b"{}")

    await bus.delete(JOB_Q, 1)
    await bus.delete(JOB_Q, 1)
    await bus.purge(JOB_Q, subjects.queue_entries_of("j3"))

    left = await bus.subjects_in(JOB_Q, subjects.ALL_QUEUED)
    assert left == [subjects.queue_entry("batch", "removal", "u1", "j2")]


async def test_declaring_again_keeps_what_is_stored(bus: Bus, stream_settings: StreamSettings) -> None:
    """Every service does it at every start."""
    seq = await bus.publish(letters(1), b"one")

    await declare_streams(bus, stream_settings)

    assert await bus.get(JOB_DLQ, seq) is not None


def start_event(job_id: str, attempt: int) -> Started:
    return Started(job_id=job_id, worker="w1", engine="none", attempt=attempt)
