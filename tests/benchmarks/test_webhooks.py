"""The cost of a webhook for the job manager: its processor time with an endpoint, less that without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.gateway.access.principal import LOCAL
from services.gateway.webhooks.endpoints import Endpoints
from shared import subjects, webhook_subjects
from shared.bus import open_bus
from shared.deliveries import settled_until
from shared.messages import Done, ImageRef, JobClass, Queued, Task
from shared.settings import NatsSettings
from shared.topology import FAN_OUT, JOB_EV, WEBHOOK_Q
from shared.webhook_messages import WebhookEvent
from tests.benchmarks.measuring.meter import Cpu
from tests.benchmarks.measuring.servers import running_stack
from tests.receiver import LOOPBACK, Receiver
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shared.bus import Bus
    from tests.benchmarks.measuring.meter import Table

pytestmark = pytest.mark.timeout(300)
ENDS = 1000
PICTURE = ImageRef(bucket="results", sha256="ab" * 32, content_type="image/png", width=4, height=3, size_bytes=9)


async def end_jobs(bus: Bus, prefix: str) -> None:
    """Store the first and the last event of many jobs, and wait until the job manager has read them."""
    for number in range(ENDS):
        job = f"{prefix}{number}"
        queued = Queued(job_id=job, user="local", task=Task.REMOVAL, job_class=JobClass.BATCH, log_seq=1, total_steps=3)
        done = Done(
            job_id=job, worker="w1", engine="e", attempt=1, result=PICTURE, duration_ms=5, seed=1, changed_outside_px=0
        )
        await bus.publish(subjects.event(job, "queued"), queued)
        last = await bus.publish(subjects.end(job), done)

    async def is_read() -> bool:
        return await settled_until(bus, JOB_EV, FAN_OUT) >= last

    await wait_until(is_read, "all ends are read")


async def test_a_webhook_costs_little(table: Table, tmp_path: Path) -> None:
    """Processor time of the job manager for each delivery, signatures and HTTP included."""
    allowed = {"WEBHOOKS_ALLOW_HTTP": "true", "WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8"}
    with running_stack(tmp_path, **allowed) as stack:
        async with open_bus(NatsSettings(url=stack.broker), "bench") as bus, Receiver().running() as receiver:
            with Cpu(*stack.of("jobmanager")) as without:
                await end_jobs(bus, "a")
            endpoint = await Endpoints(bus, LOOPBACK, None).create(
                LOCAL, receiver.url, list(WebhookEvent), "http://here"
            )
            pattern = webhook_subjects.deliveries_to("local", endpoint.id)

            async def is_sent() -> bool:
                return len(receiver.received) >= ENDS and not await bus.subjects_in(WEBHOOK_Q, pattern)

            with Cpu(*stack.of("jobmanager")) as with_one:
                await end_jobs(bus, "b")
                await wait_until(is_sent, "all webhooks are sent")

    table.row("webhook, job manager CPU a delivery", (with_one.ms - without.ms) / ENDS, "ms", target=2)
    table.row("end of a job without endpoints, job manager CPU", without.ms / ENDS, "ms")
