"""Jobs on the bus, without HTTP and without work: how many a second, and how soon one starts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from statistics import median
from typing import TYPE_CHECKING
from uuid import uuid4

import nats
import pytest

from shared import subjects
from shared.bus import Bus, open_bus
from shared.image_codec import probe_in_thread
from shared.image_store import NatsImageStore
from shared.messages import JobClass, JobSubmit, Task
from shared.settings import NatsSettings
from tests.benchmarks.measuring.photos import photo
from tests.benchmarks.measuring.servers import Stack, running_stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from nats.js.client import JetStreamContext

    from shared.bus import StoredMessage
    from tests.benchmarks.measuring.meter import Table

pytestmark = pytest.mark.timeout(300)
SUBMITS, AT_ONCE = 2000, 64
JOBS = 300
STARTS = 50
PLAIN = "bench.q"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("bus"), A100WORKER_BACKEND="scripted") as running:
        yield running


@pytest.fixture
async def stack_bus(stack: Stack) -> AsyncIterator[Bus]:
    """Provide a connection to the broker of the stack."""
    async with open_bus(NatsSettings(url=stack.broker), "bench") as bus:
        yield bus


# --- the baseline: bare JetStream -----------------------------------------------------------------------------------


@asynccontextmanager
async def bare_stream(broker: str) -> AsyncIterator[JetStreamContext]:
    """Provide a connection of the vendor's own, and a work queue on disk."""
    client = await nats.connect(broker)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="BENCH", subjects=["bench.>"], retention="workqueue", duplicate_window=120)
    yield jetstream
    await jetstream.delete_stream("BENCH")
    await client.close()


async def bare_jobs_per_s(jetstream: JetStreamContext) -> float:
    """Publish, then fetch and acknowledge one by one."""
    pull = await jetstream.pull_subscribe(PLAIN, durable="bench")
    began = time.perf_counter()
    for _ in range(JOBS):
        await jetstream.publish(PLAIN, b"x" * 400)
    for _ in range(JOBS):
        (message,) = await pull.fetch(1)
        await message.ack_sync()
    return JOBS / (time.perf_counter() - began)


async def bare_start_ms(jetstream: JetStreamContext) -> list[float]:
    """From publish to delivery at a waiting consumer."""
    pull = await jetstream.pull_subscribe(PLAIN, durable="bench")
    took = []
    for _ in range(STARTS):
        waiting = asyncio.ensure_future(pull.fetch(1, timeout=5))
        await asyncio.sleep(0.02)
        began = time.perf_counter()
        await jetstream.publish(PLAIN, b"x" * 400)
        (message,) = await waiting
        took.append(1000 * (time.perf_counter() - began))
        await message.ack_sync()
    return took


# --- the measurements -----------------------------------------------------------------------------------------------


async def per_s(publish: Callable[[], Awaitable[object]], at_once: int) -> float:
    """How many a second, with so many outstanding."""
    left = iter(range(SUBMITS))

    async def publish_all() -> None:
        for _ in left:
            await publish()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(at_once):
            group.create_task(publish_all(), name=f"publish.{number}")
    return SUBMITS / (time.perf_counter() - began)


async def idle_order(bus: Bus) -> JobSubmit:
    """Return a job without steps on an image of 64 x 64."""
    picture = await NatsImageStore(bus, probe_in_thread).put("inputs", photo(64))
    return JobSubmit(task=Task.WHITE_BALANCE, image=picture.sha256, prompt='{"steps": 0, "interval_ms": 0}')


async def submit(bus: Bus, order: JobSubmit, job_class: JobClass = JobClass.INTERACTIVE) -> str:
    job_id = uuid4().hex
    await bus.publish(subjects.submission(job_class, "bench", job_id), order, msg_id=job_id)
    return job_id


async def test_submits_are_durable_and_fast(table: Table, nats_url: str, bus: Bus) -> None:
    """The log takes them one by one and many at once, on a broker without other clients."""
    order = await idle_order(bus)
    async with bare_stream(nats_url) as jetstream:
        for at_once in (1, AT_ONCE):
            ours = await per_s(lambda: submit(bus, order), at_once)
            bare = await per_s(lambda: jetstream.publish(PLAIN, b"x" * 400), at_once)
            table.row(f"durable submits, {at_once} at a time", ours, "/s", baseline=bare, more_is_better=True)


async def test_a_job_starts_soon(table: Table, stack: Stack, stack_bus: Bus) -> None:
    """Measure the time from the submission to the worker's `started`, through the dispatcher, on an idle system."""
    order = await idle_order(stack_bus)
    started: asyncio.Queue[str] = asyncio.Queue()
    ended: asyncio.Queue[str] = asyncio.Queue()
    took = []

    def hear(stored: StoredMessage) -> None:
        kind = subjects.kind_of_event(stored.subject)
        if kind in {"started", subjects.TERMINAL}:
            (started if kind == "started" else ended).put_nowait(subjects.job_of_event(stored.subject))

    async with stack_bus.subscribe(subjects.LIVE_EVENTS, hear):
        for _ in range(STARTS):
            began = time.perf_counter()
            job = await submit(stack_bus, order)
            assert await asyncio.wait_for(started.get(), 10) == job
            took.append(1000 * (time.perf_counter() - began))
            assert await asyncio.wait_for(ended.get(), 10) == job
            await asyncio.sleep(0.05)
    async with bare_stream(stack.broker) as jetstream:
        bare = await bare_start_ms(jetstream)

    table.row("submit to started, p50", median(took), "ms", baseline=median(bare))
    table.row("  max", max(took), "ms", baseline=max(bare))


async def test_whole_jobs_are_fast(table: Table, stack: Stack, stack_bus: Bus) -> None:
    """Log, dispatcher, queue, one worker, terminal event; the baseline is one stream, fetched and acknowledged."""
    order = await idle_order(stack_bus)
    ends: Counter[str] = Counter()
    all_ended = asyncio.Event()

    def hear(stored: StoredMessage) -> None:
        if subjects.kind_of_event(stored.subject) == subjects.TERMINAL:
            ends[subjects.job_of_event(stored.subject)] += 1
            if len(ends) == JOBS:
                all_ended.set()

    async with stack_bus.subscribe(subjects.LIVE_EVENTS, hear):
        began = time.perf_counter()
        for _ in range(JOBS):
            await submit(stack_bus, order)
        await asyncio.wait_for(all_ended.wait(), 120)
        ours = JOBS / (time.perf_counter() - began)
    async with bare_stream(stack.broker) as jetstream:
        bare = await bare_jobs_per_s(jetstream)

    assert set(ends.values()) == {1}
    table.row("whole jobs of no work, 1 worker", ours, "/s", baseline=bare, more_is_better=True)
