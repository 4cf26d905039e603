"""A job manager that cannot declare its streams: one line with the broker's reason, or an end with a remedy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from nats.js.api import ReplayPolicy

from services.jobmanager import service
from services.jobmanager.settings import Settings
from shared import deliveries, subjects
from shared.errors import ConfigError
from shared.messages import JobClass, Task
from shared.settings import NatsSettings
from shared.topology import JOB_DLQ, JOB_Q, build_topology, worker_consumer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage
    from shared.settings import StreamSettings


async def test_a_refusal_is_logged_once_with_the_brokers_words(
    bus: Bus, nats_url: str, stream_settings: StreamSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """The job manager tries again twice a second, and starts as soon as it can."""
    tries: list[StoredMessage] = []
    stop = asyncio.Event()
    jetstream = bus.client.jetstream()
    await jetstream.delete_stream(JOB_DLQ)
    await jetstream.add_stream(name="other", subjects=["job.dlq.>"], max_bytes=1024)

    async def is_declared() -> bool:
        return JOB_DLQ in [info.config.name for info in await jetstream.streams_info()]

    async with (
        bus.subscribe(subjects.api("STREAM.CREATE", JOB_DLQ), tries.append),
        asyncio.TaskGroup() as group,
    ):
        settings = Settings(nats=NatsSettings(url=nats_url), streams=stream_settings)
        group.create_task(service.run(settings, stop), name="manager")
        await wait_until(lambda: len(tries) >= 3, "it has tried three times")
        lines = [vars(record) for record in caplog.records if record.msg == "jobmanager.not-declared"]
        await jetstream.delete_stream("other")
        await wait_until(is_declared, "the stream exists")
        stop.set()

    assert [line["reason"] for line in lines] == [
        "The broker refuses the stream JOB_DLQ: subjects overlap with an existing stream."
    ]


async def test_a_drift_that_is_not_safe_to_correct_ends_it(
    bus: Bus, nats_url: str, stream_settings: StreamSettings
) -> None:
    """With ConfigError itself, not in a group, so that the process exits with code 78 and the sentence."""
    name = worker_consumer(JobClass.BATCH, Task.REMOVAL)
    wanted = next(each for _, each in build_topology(stream_settings).consumers if each.durable_name == name)
    await bus.client.jetstream().delete_consumer(JOB_Q, name)
    await bus.client.jetstream().add_consumer(JOB_Q, config=wanted.evolve(replay_policy=ReplayPolicy.ORIGINAL))
    await bus.publish(subjects.queue_entry(JobClass.BATCH, Task.REMOVAL, "u1", "j1"), b"{}")
    assert await deliveries.pull(bus, JOB_Q, name, wait_s=1.0) is not None

    with pytest.raises(ConfigError, match=rf"^The consumer {name} of the stream JOB_Q is not as declared "):
        await service.run(Settings(nats=NatsSettings(url=nats_url), streams=stream_settings), asyncio.Event())
