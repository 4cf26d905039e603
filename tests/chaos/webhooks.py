"""Webhooks under faults: `python -m tests.chaos.webhooks` prints a row of the table in docs/chaos.md.

Jobs end while the receiver fails three calls of ten and restarts, and the broker is killed. Another endpoint of the
same owner never answers.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from services.gateway.access.principal import LOCAL
from services.gateway.webhooks.endpoints import Endpoints
from services.jobmanager import service as jobmanager
from services.jobmanager.settings import Settings
from services.stack.nats_server import NatsServer
from shared import subjects, webhook_subjects
from shared.bus import open_bus
from shared.errors import BrokerUnavailable
from shared.messages import Cancelled, Done, Failed, ImageRef, JobClass, Queued, Task
from shared.settings import NatsSettings, StreamSettings
from shared.topology import WEBHOOK_Q
from shared.webhook_messages import WebhookEvent
from tests.receiver import LOOPBACK, OK, Received, Receiver, status
from tests.v1_client import beside
from tests.waiting import wait_until

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.messages import JobEvent, Terminal
    from shared.webhook_messages import WebhookEndpoint

_OWNER, _WINDOW = "local", 50  # ends between two looks at the acts
_PICTURE = ImageRef(bucket="results", sha256="ab" * 32, content_type="image/png", width=4, height=3, size_bytes=9)


@dataclass
class Report:
    """The counts for the table."""

    ends: int
    kills: int = 0
    restarts: int = 0
    calls: int = 0
    refused: int = 0
    delivered: dict[str, list[str]] = field(default_factory=dict)
    """The events that the receiver accepted, by job, in their order."""
    wanted: dict[str, str] = field(default_factory=dict)
    unverified: int = 0
    delays_s: list[float] = field(default_factory=list)
    to_the_silent: int = 0

    @property
    def lost(self) -> set[str]:
        """Return the jobs with an end that was not delivered."""
        return self.wanted.keys() - self.delivered.keys()

    @property
    def wrong(self) -> set[str]:
        """Return the jobs of which another event arrived than the one that was stored."""
        return {job for job, events in self.delivered.items() if set(events) != {self.wanted.get(job)}}

    @property
    def repeated(self) -> int:
        """Return how often an accepted webhook came again."""
        return sum(len(events) - 1 for events in self.delivered.values())

    def row(self) -> str:
        """Return a row of the table."""
        slow = quantiles(self.delays_s, n=100)[98] if len(self.delays_s) > 1 else 0.0
        return (
            f"| {self.ends:,} | {self.kills} | {self.restarts} | {self.calls:,} | {self.refused:,} "
            f"| {len(self.delivered):,} | {len(self.lost)} | {len(self.wrong)} | {self.repeated} | {self.unverified} "
            f"| {median(self.delays_s):.2f} s | {slow:.1f} s |"
        )


class Customer:
    """The receiver's side: it checks each signature, and refuses three calls of ten in three ways."""

    def __init__(self, report: Report, chance: random.Random) -> None:
        self._report = report
        self._chance = chance
        self.endpoint: WebhookEndpoint | None = None
        self.ended_at: dict[str, float] = {}

    def answer(self, request: Received) -> bytes | None:
        """See Receiver."""
        assert self.endpoint is not None
        report = self._report
        report.calls += 1
        if self._chance.random() < 0.3:
            report.refused += 1
            return self._chance.choice([status(500), status(503, "Retry-After: 1"), None])
        try:
            body = request.verified(self.endpoint.secret)
        except Exception:  # noqa: BLE001 (counted)
            report.unverified += 1
            return OK
        job = body["data"]["job_id"]
        if job not in report.delivered:
            report.delays_s.append(time.monotonic() - self.ended_at[job])
        report.delivered.setdefault(job, []).append(body["type"])
        return OK


async def run(folder: Path, *, ends: int, kills: int, restarts: int, seed: int) -> Report:
    """Run the whole and return the report once no delivery waits for the receiver any more."""
    report = Report(ends)
    customer = Customer(report, random.Random(seed))  # noqa: S311
    receiver, silent = Receiver(answer=customer.answer), Receiver(answer=lambda _: b"")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(NatsServer(folder / "nats"))
        nats = NatsSettings(url=server.url)
        bus = await stack.enter_async_context(open_bus(nats, "chaos"))
        settings = Settings(
            nats=nats,
            streams=StreamSettings(picture_bytes=1024**3),
            webhooks=LOOPBACK,
            webhooks_retry_s=",".join(["0.1", "0.3", "0.5", *["1"] * 40]),
            webhooks_timeout_s=1.0,
        )
        await stack.enter_async_context(beside(bus, jobmanager.NAME, jobmanager.run, settings))
        await stack.enter_async_context(silent.running())
        listening = await stack.enter_async_context(AsyncExitStack())
        await listening.enter_async_context(receiver.running())
        endpoints = Endpoints(bus, LOOPBACK, None)
        events = list(WebhookEvent)
        customer.endpoint = await endpoints.create(LOCAL, receiver.url, events, "http://here")
        dead = await endpoints.create(LOCAL, silent.url, events, "http://here")
        left = {"kill": kills, "restart": restarts}
        for start in range(0, ends, _WINDOW):
            await _end_jobs(bus, customer, report, range(start, min(start + _WINDOW, ends)))
            if left["kill"] and start >= ends * (kills - left["kill"]) / max(kills, 1):
                left["kill"] -= 1
                report.kills += 1
                await server.kill()
                await server.start()
            if left["restart"] and start >= ends * (restarts - left["restart"] + 0.5) / max(restarts, 1):
                left["restart"] -= 1
                report.restarts += 1
                await listening.aclose()
                await listening.enter_async_context(receiver.running())
        pattern = webhook_subjects.deliveries_to(_OWNER, customer.endpoint.id)

        async def is_settled() -> bool:
            return not report.lost and not await bus.subjects_in(WEBHOOK_Q, pattern)

        await wait_until(is_settled, "no delivery waits for the receiver", timeout_s=500)
        report.to_the_silent = len(silent.received)
        await endpoints.remove(_OWNER, dead.id)
    return report


async def _end_jobs(bus: Bus, customer: Customer, report: Report, numbers: range) -> None:
    """Store the events of some jobs at once, over a restart of the broker as the services do."""
    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(_end_job(bus, customer, report, f"j{number}"), name=f"end.{number}")


async def _end_job(bus: Bus, customer: Customer, report: Report, job: str) -> None:
    end, event = _end_of(job)
    report.wanted[job] = event
    queued = Queued(
        job_id=job, user=_OWNER, task=Task.REMOVAL, job_class=JobClass.INTERACTIVE, log_seq=1, total_steps=3
    )  # fmt: skip
    customer.ended_at[job] = time.monotonic()
    await _store(bus, subjects.event(job, "queued"), queued)
    await _store(bus, subjects.end(job), end)


def _end_of(job: str) -> tuple[Terminal, str]:
    kind = int(job[1:]) % 3
    if kind == 0:
        done = Done(
            job_id=job, worker="w1", engine="e", attempt=1, result=_PICTURE, duration_ms=5, seed=1, changed_outside_px=0
        )
        return done, "job.done"
    if kind == 1:
        return Failed(job_id=job, code="engine_failed", message="It failed."), "job.failed"
    return Cancelled(job_id=job), "job.cancelled"


async def _store(bus: Bus, subject: str, event: JobEvent) -> None:
    while True:
        try:
            await bus.publish(subject, event, msg_id=f"{event.job_id}.{event.type}")
        except BrokerUnavailable:
            await bus.up.wait()
        else:
            return


def main() -> None:
    """Run and print the row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ends", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(
            run(Path(folder), ends=given.ends, kills=given.kills, restarts=given.restarts, seed=given.seed)
        )
    print(report.row())  # noqa: T201
    print(f"lost: {sorted(report.lost)}, calls to the silent endpoint: {report.to_the_silent}")  # noqa: T201


if __name__ == "__main__":
    main()
