"""`python -m tests.chaos.tenants --minutes N`: one API key at all its limits beside a tenant with 200 jobs.

All jobs of the tenant must end, with their photo, their result and their submission still stored. The system has the
default limits and small stores, so that the flood fills its share of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import httpx

from services.gateway import keys
from services.gateway.access.principal import KeyScope
from services.stack.nats_server import HOST
from services.stack.stack import ALLOCATOR
from shared import subjects
from shared.bus import open_bus
from shared.settings import NatsSettings
from shared.topology import JOB_LOG
from tests.benchmarks.measuring.photos import distinct
from tests.chaos import parts
from tests.chaos.driver import Clock
from tests.chaos.load import bombs
from tests.chaos.load.pictures import noise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.bus import Bus

_SLOW, _QUICK = (json.dumps({"steps": steps, "interval_ms": 100}) for steps in (10, 2))
_LONG_PROMPT = json.dumps({"steps": 10, "interval_ms": 100, "padding": "x" * 9_000})
_PHOTO_PX, _LARGE_PX = 256, 400  # 200 photos of the tenant stay within its own share
_STREAMS, _PAUSE_S, _STREAM_PAUSE_S = 256, 0.2, 20.0
_TIMEOUT_S = 120.0
_NUMBERS = count()
_KIND = {"Content-Type": "image/png"}


@dataclass
class Report:
    """The tenant's jobs and waits, and the answers to the flood."""

    jobs: dict[str, str] = field(default_factory=dict)
    """The photo of each job."""
    unfinished: list[str] = field(default_factory=list)
    evicted: list[str] = field(default_factory=list)
    uploads_s: list[float] = field(default_factory=list)
    jobs_s: list[float] = field(default_factory=list)
    flood: Counter[str] = field(default_factory=Counter)
    loads: list[float] = field(default_factory=list)
    """The load average of the machine at each order."""
    crashes: Counter[str] = field(default_factory=Counter)

    @property
    def broken(self) -> list[str]:
        """Return a line for each broken promise."""
        return [*self.unfinished, *self.evicted, *self.crashes]

    def lines(self) -> list[str]:
        """Return the account."""
        answers = ", ".join(f"{name} {number}" for name, number in sorted(self.flood.items()))
        return [
            f"the tenant's jobs  {len(self.jobs)}, unfinished {len(self.unfinished)}, evicted {len(self.evicted)}",
            f"its uploads        {_spread(self.uploads_s)}",
            f"from submit to end {_spread(self.jobs_s)}",
            f"the flood          {answers}",
            f"crashes            {dict(self.crashes) or 'none'}; load average {median(self.loads):.1f} (median)",
            *self.broken,
        ]


def _spread(times_s: list[float]) -> str:
    cuts = quantiles(times_s, n=100)
    return f"median {median(times_s):.3f} s, p99 {cuts[98]:.3f} s, longest {max(times_s):.3f} s"


class Flood:
    """A key that asks for more than its limits, in every way, and never waits for the time in Retry-After."""

    def __init__(self, http: httpx.AsyncClient, dice: random.Random, report: Report, picture: bytes) -> None:
        self._http = http
        self._dice = dice
        self._report = report
        self._picture = picture
        self._image = ""
        self._last_job = ""

    async def run(self, closing: asyncio.Event) -> None:
        """Flood until closing time."""
        await self._bring()
        async with asyncio.TaskGroup() as group:
            ways = [(self._submit, 4), (self._upload, 4), (self._bomb, 2), (self._mask, 2), (self._dribble, 2)]
            tasks = [
                group.create_task(self._repeat(way, closing), name=f"flood-{way.__name__}-{number}")
                for way, count in ways
                for number in range(count)
            ]
            tasks += [
                group.create_task(self._repeat(self._listen, closing), name=f"flood-stream-{number}")
                for number in range(_STREAMS)
            ]
            await closing.wait()
            for task in tasks:
                task.cancel()

    async def _repeat(self, way: Callable[[], Any], closing: asyncio.Event) -> None:
        name = way.__name__.strip("_")
        while not closing.is_set():
            try:
                status = await way()
            except httpx.HTTPError as error:
                status = type(error).__name__
            self._report.flood[f"{name} {status}"] += 1
            pause_s = _STREAM_PAUSE_S if way == self._listen else _PAUSE_S  # of a job that has ended nothing comes
            await parts.happens(closing, self._dice.uniform(0, 2 * pause_s))

    async def _bring(self) -> None:
        """Upload the picture of its orders, again where its own uploads have driven it out."""
        answer = await self._http.post("/v1/images", content=self._picture, headers=_KIND)
        if answer.is_success:
            self._image = answer.json()["sha256"]

    async def _submit(self) -> int:
        """Submit, and cancel every other job, which makes room for the next."""
        prompt = self._dice.choice([_SLOW, _LONG_PROMPT])
        body = {"task": "removal", "image": self._image, "mask": self._image, "prompt": prompt}
        answer = await self._http.post("/v1/jobs", json=body)
        if answer.is_success:
            self._last_job = answer.json()["id"]
            if self._dice.random() < 0.5:
                await self._http.delete(f"/v1/jobs/{self._last_job}")
        elif answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
            await self._bring()
        return answer.status_code

    async def _upload(self) -> int:
        return (
            await self._http.post("/v1/images", content=distinct(self._picture, next(_NUMBERS)), headers=_KIND)
        ).status_code

    async def _bomb(self) -> int:
        body = await asyncio.to_thread(bombs.build, self._dice.choice(bombs.KINDS), self._dice)
        return (await self._http.post("/v1/images", content=body, headers=_KIND)).status_code

    async def _mask(self) -> int:
        point = [self._dice.randrange(_LARGE_PX), self._dice.randrange(_LARGE_PX), 1]
        return (await self._http.post("/v1/masks", json={"image": self._image, "points": [point]})).status_code

    async def _dribble(self) -> int:
        """Send a large body at half of the rate that a body must have."""

        async def body() -> AsyncIterator[bytes]:
            while True:
                yield bytes(16_384)
                await parts.happens(asyncio.Event(), 1.0)

        headers = {"Content-Length": "60000000", **_KIND}
        return (await self._http.post("/v1/images", content=body(), headers=headers)).status_code

    async def _listen(self) -> int:
        """Hold an event stream of a job that waits, as long as it lives."""
        job = self._last_job
        if not job:
            return 0
        async with self._http.stream("GET", f"/v1/jobs/{job}/events", timeout=None) as answer:
            async for _ in answer.aiter_bytes():
                pass
            return answer.status_code


class Tenant:
    """A customer that orders now and then, and expects each picture."""

    def __init__(self, http: httpx.AsyncClient, bus: Bus, report: Report) -> None:
        self._http = http
        self._bus = bus
        self._report = report
        self._picture = noise(_PHOTO_PX)

    async def run(self, jobs: int, length_s: float) -> None:
        """Order the jobs evenly over the time, wait for each, and check at the end that nothing of them is gone."""
        async with asyncio.TaskGroup() as group:
            for number in range(jobs):
                group.create_task(self._order(number), name=f"tenant-{number}")
                await parts.happens(asyncio.Event(), length_s / jobs)
        for job, photo in self._report.jobs.items():
            await self._check(job, photo)

    async def _order(self, number: int) -> None:
        self._report.loads.append(os.getloadavg()[0])
        began = time.monotonic()
        answer = await self._http.post("/v1/images", content=distinct(self._picture, next(_NUMBERS)), headers=_KIND)
        self._report.uploads_s.append(time.monotonic() - began)
        if not answer.is_success:
            self._report.unfinished.append(f"upload {number}: {answer.status_code} {answer.text[:200]}")
            return
        photo, began = answer.json()["sha256"], time.monotonic()
        body = {"task": "removal", "image": photo, "mask": photo, "prompt": _QUICK}
        answer = await self._http.post("/v1/jobs", json=body)
        if not answer.is_success:
            self._report.unfinished.append(f"submit {number}: {answer.status_code} {answer.text[:200]}")
            return
        job = answer.json()["id"]
        self._report.jobs[job] = photo
        async with self._http.stream("GET", f"/v1/jobs/{job}/events", timeout=_TIMEOUT_S) as events:
            await events.aread()
        self._report.jobs_s.append(time.monotonic() - began)

    async def _get(self, path: str) -> httpx.Response:
        """Return the answer; the check at the end asks for more a second than a key may."""
        while (answer := await self._http.get(path)).status_code == httpx.codes.TOO_MANY_REQUESTS:
            await parts.happens(asyncio.Event(), 1.0)
        return answer

    async def _check(self, job: str, photo: str) -> None:
        state = (await self._get(f"/v1/jobs/{job}")).json()
        if state.get("status") != "done":
            self._report.unfinished.append(f"job {job}: {state}")
        for path in (f"/v1/jobs/{job}/result", f"/v1/images/{photo}"):
            answer = await self._get(path)
            if not answer.is_success:
                self._report.evicted.append(f"{path}: {answer.status_code} {answer.text[:200]}")
        if not await self._bus.history(JOB_LOG, subjects.submissions_of(job)):
            self._report.evicted.append(f"submission of {job}")


@asynccontextmanager
async def _clients(port: int, *secrets: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    limits = httpx.Limits(max_connections=None)
    clients = [
        httpx.AsyncClient(
            base_url=f"http://{HOST}:{port}",
            headers={"Authorization": f"Bearer {secret}"},
            timeout=_TIMEOUT_S,
            limits=limits,
            trust_env=False,
        )
        for secret in secrets
    ]
    try:
        yield clients
    finally:
        for client in clients:
            await client.aclose()


async def run(folder: Path, clock: Clock, *, minutes: float, jobs: int, seed: int) -> Report:
    """Run the system, the flood and the tenant; return the account."""
    report, file, signing, closing = Report(), folder / "keys.json", folder / "signing-key", asyncio.Event()
    keys.main(["signing-key", str(signing)])
    both = frozenset({KeyScope.READ, KeyScope.WRITE})
    secrets = [keys.new(file, name, both, None) for name in ("flood", "tenant")]
    environment = {
        **ALLOCATOR,
        "A100WORKER_BACKEND": "scripted",
        "LOG_LEVEL": "WARNING",
        "STREAMS_PICTURE_BYTES": str(1024**3),
        "GATEWAY_ACCESS": "keys",
        "GATEWAY_KEYS_FILE": str(file),
        "GATEWAY_SIGNING_KEY_FILE": str(signing),
    }
    async with (
        parts.running(folder, 2, environment, clock.note) as system,
        open_bus(NatsSettings(url=system.server.url), "tenants") as bus,
        _clients(system.port, *secrets) as (loud, quiet),
    ):
        dice = random.Random(seed)  # noqa: S311 (it must be repeatable)
        flood, tenant = Flood(loud, dice, report, noise(_LARGE_PX)), Tenant(quiet, bus, report)
        async with asyncio.TaskGroup() as group:
            group.create_task(flood.run(closing), name="flood")
            await tenant.run(jobs, minutes * 60)
            closing.set()
    report.crashes = +clock.crashes
    return report


def main() -> int:
    """Run, print the account, and return 1 if a job of the tenant is missing."""
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.tenants", description=description)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tenants-"))
    clock = Clock(folder / "log")
    clock.say(f"{given.jobs} jobs in {given.minutes:g} minutes, logs in {folder}")
    report = asyncio.run(run(folder, clock, minutes=given.minutes, jobs=given.jobs, seed=given.seed))
    for line in report.lines():
        clock.say(line)
    clock.close()
    if report.broken or len(report.jobs) < given.jobs:
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
