"""A paused consumer and a full stream are reported by health and by metrics, before a user notices them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY

from services.jobmanager.watch.broker import BrokerWatch
from shared import rpc, subjects
from shared.messages import HealthReply, HealthRequest, JobClass, Task
from shared.settings import StreamSettings
from shared.topology import JOB_Q, worker_consumer
from tests.waiting import wait_until

if TYPE_CHECKING:
    from shared.bus import Bus
    from tests.running import Desk

CONSUMER = worker_consumer(JobClass.INTERACTIVE, Task.REMOVAL)


async def pause(bus: Bus, until: datetime) -> None:
    """Pause the worker's consumer as `nats consumer pause` does; a time in the past resumes it."""
    await bus.client.jetstream().pause_consumer(JOB_Q, CONSUMER, until.isoformat())


def sample(name: str, **labels: str) -> float | None:
    """Return a sample of this process."""
    return REGISTRY.get_sample_value(f"artmancer_{name}", labels)


async def test_a_paused_consumer_is_measured(bus: Bus) -> None:
    """The sentence contains the command that resumes it."""
    watch = BrokerWatch(bus, StreamSettings())
    await pause(bus, datetime.now(UTC) + timedelta(hours=1))

    await watch.measure()
    while_paused = (watch.sentences, sample("consumer_paused", consumer=CONSUMER))
    await pause(bus, datetime.now(UTC) - timedelta(hours=1))
    await watch.measure()

    sentence = (
        f"The consumer {CONSUMER} is paused, so its messages wait; `nats consumer resume JOB_Q {CONSUMER}` ends that."
    )
    assert while_paused == ([sentence], 1.0)
    assert (watch.sentences, sample("consumer_paused", consumer=CONSUMER)) == ([], 0.0)


async def test_the_job_managers_health_names_it(desk: Desk, bus: Bus) -> None:
    """A job manager that starts does not resume the consumer, because an operator may want the pause."""
    await pause(bus, datetime.now(UTC) + timedelta(hours=1))

    async with desk.manager():

        async def paused() -> str:
            reply = await rpc.call(bus, subjects.health("jobmanager"), HealthRequest(), HealthReply, timeout_s=5)
            return reply.detail.get("paused", "") if reply.status == "degraded" else ""

        await wait_until(paused, "the job manager has measured the consumers")
        sentence = await paused()

    assert f"The consumer {CONSUMER} is paused" in sentence


async def test_the_fill_of_each_stream_is_measured(desk: Desk, bus: Bus) -> None:
    """A stream that is as large as its limit has a ratio of 1."""
    watch = BrokerWatch(bus, StreamSettings())
    await desk.submit("j1")

    await watch.measure()

    info = await bus.info("JOB_LOG", {})
    assert sample("stream_fill_ratio", stream="JOB_LOG") == info["state"]["bytes"] / info["config"]["max_bytes"] > 0
