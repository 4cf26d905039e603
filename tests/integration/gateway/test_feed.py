"""The feed of job events in a gateway: no gaps, no duplicates; a slow reader loses only progress."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from services.gateway.core.feed import INBOX_LIMIT, Feed
from shared.messages import Cancelled, Progress, Started
from tests.gateway import WorkerByHand
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus
    from shared.messages import JobEvent


@pytest.fixture
def seen() -> list[JobEvent]:
    """Return the events that the feed's observer received."""
    return []


@pytest.fixture
async def feed(bus: Bus, seen: list[JobEvent]) -> AsyncIterator[Feed]:
    """Provide a running feed."""
    listens = asyncio.Event()

    def observe(event: JobEvent) -> None:
        if event.job_id == "probe":  # of which some may come late
            listens.set()
        else:
            seen.append(event)

    feed = Feed(bus, observe)
    worker = WorkerByHand(bus, None)  # type: ignore[arg-type]  # stores no picture
    async with asyncio.TaskGroup() as group:
        running = group.create_task(feed.run(), name="feed")

        async def hears() -> bool:
            await worker.start("probe")
            return listens.is_set()

        await wait_until(hears, "the feed listens")
        yield feed
        running.cancel()


async def steps_of(feed: Feed, job_id: str, after: int = 0) -> list[int | None]:
    """Follow a job to its end and return its steps."""
    async with aclosing(feed.follow(job_id, after)) as events:
        return [event.step async for _, event in events if isinstance(event, Progress)]


async def test_stored_and_live_events_join_without_a_seam(feed: Feed, worker: WorkerByHand) -> None:
    """Each event arrives once and in order, at whatever time the reader starts."""
    for step in range(1, 6):
        await worker.step("j1", step)
    async with asyncio.TaskGroup() as group:
        readers = []
        for step in range(6, 11):
            readers.append(group.create_task(steps_of(feed, "j1"), name="reader"))
            await worker.step("j1", step)
        await worker.say(Cancelled(job_id="j1"))

    assert [reader.result() for reader in readers] == [list(range(1, 11))] * 5


async def test_a_reader_may_come_in_behind_a_sequence(feed: Feed, worker: WorkerByHand) -> None:
    """Events up to that sequence are not repeated."""
    known = [await worker.say(Progress(job_id="j1", phase="processing", step=step, fraction=0)) for step in (1, 2, 3)]
    await worker.say(Cancelled(job_id="j1"))

    assert await steps_of(feed, "j1", known[1]) == [3]


async def test_a_slow_reader_loses_progress_and_nothing_else(feed: Feed, worker: WorkerByHand) -> None:
    """The inbox is bounded and drops the oldest steps; the start and the end remain."""
    async with aclosing(feed.follow("j1", 0)) as events:
        await worker.step("j1", 0)
        first = await anext(events)
        await worker.start("j1")
        for step in range(1, INBOX_LIMIT + 100):
            await worker.step("j1", step)
        await worker.say(Cancelled(job_id="j1"))
        rest = [event async for _, event in events]

    assert isinstance(first[1], Progress)
    assert isinstance(rest[0], Started)
    assert isinstance(rest[-1], Cancelled)
    assert len(rest) <= INBOX_LIMIT
    assert [event.step for event in rest[1:-1] if isinstance(event, Progress)][-1] == INBOX_LIMIT + 99


async def test_closing_ends_all_who_follow(feed: Feed, worker: WorkerByHand) -> None:
    """Waiting readers end, and later readers end at once."""
    seqs: list[int] = []

    async def read() -> None:
        async for seq, _ in feed.follow("j1", 0):
            seqs.append(seq)

    async with asyncio.TaskGroup() as group:
        group.create_task(read(), name="reader")
        await worker.step("j1", 1)
        await wait_until(lambda: seqs, "the reader reads")
        feed.close()

    assert len(seqs) == 1
    assert await steps_of(feed, "j2") == []


async def test_the_observer_sees_every_job(feed: Feed, worker: WorkerByHand, seen: list[JobEvent]) -> None:
    """With and without a follower."""
    await worker.start("j1")
    await worker.say(Cancelled(job_id="j2"))
    await wait_until(lambda: len(seen) == 2, "both are seen")

    assert [event.job_id for event in seen] == ["j1", "j2"]
    del feed


async def test_a_long_silence_is_doubted(bus: Bus, worker: WorkerByHand) -> None:
    """After a time without events the history is read again: this feed has no subscription."""
    deaf = Feed(bus, lambda _: None, recheck_s=0.1)
    async with aclosing(deaf.follow("j1", 0)) as events:
        await worker.start("j1")
        assert isinstance((await anext(events))[1], Started)

        await worker.say(Cancelled(job_id="j1"))

        async with asyncio.timeout(10):
            assert isinstance((await anext(events))[1], Cancelled)
