"""Two hundred workers in one process: their jobs' events on the bus, as the real reporter sends them, and no pixels."""

from __future__ import annotations

import asyncio
import sys
import time
from uuid import uuid4

from services.a100worker.job.progress import ProgressPublisher
from shared import subjects
from shared.bus import Bus, open_bus
from shared.messages import Cancelled, JobClass, Queued, Task
from shared.settings import NatsSettings
from shared.topology import JOB_EV


async def main(url: str, jobs: int, steps: int, interval_s: float) -> None:
    """Announce the jobs on stdout, wait for a line on stdin, then run them all, evenly out of step."""
    async with open_bus(NatsSettings(url=url), "crew") as bus:
        ids = [uuid4().hex for _ in range(jobs)]
        for job_id in ids:
            queued = Queued(
                job_id=job_id,
                user="local",
                task=Task.REMOVAL,
                job_class=JobClass.INTERACTIVE,
                log_seq=1,
                total_steps=steps,
            )
            await bus.publish(subjects.event(job_id, "queued"), queued)
        sys.stdout.write(" ".join(ids) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        async with asyncio.TaskGroup() as group:
            for number, job_id in enumerate(ids):
                late_s = interval_s * number / jobs
                group.create_task(_run(bus, job_id, steps, interval_s, late_s), name=f"crew.{number}")


async def _run(bus: Bus, job_id: str, steps: int, interval_s: float, late_s: float) -> None:
    reporter = ProgressPublisher(bus, job_id)
    await asyncio.sleep(late_s)
    async with asyncio.TaskGroup() as group:
        group.create_task(reporter.publish(), name="crew.publish")
        for step in range(1, steps + 1):
            await asyncio.sleep(interval_s)
            reporter(step, steps, f"ts:{time.monotonic_ns()}")
        reporter.finish()
    await bus.publish_first(JOB_EV, subjects.end(job_id), Cancelled(job_id=job_id), msg_id=uuid4().hex)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
