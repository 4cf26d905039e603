"""Clients that keep the system busy: each submits its next job as soon as the last one has ended."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING
from uuid import uuid4

from shared import subjects
from shared.messages import JobClass
from tests.benchmarks.measuring.photos import distinct
from tests.chaos.load.orders import TRICKY, bad_bodies
from tests.chaos.load.pictures import noise
from tests.chaos.parts import happens

if TYPE_CHECKING:
    from random import Random

    import httpx

    from shared.bus import Bus, StoredMessage

_NOTHING = json.dumps({"steps": 0, "interval_ms": 0})
_FEW_STEPS = json.dumps({"steps": 5, "interval_ms": 10})
_LONG = json.dumps({"steps": 200, "interval_ms": 50})
_TIMEOUT_S = 60.0
_KINDS = {"bus": 60, "batch": 10, "http": 20, "cancelled": 4, "tricky": 3, "bad": 3}
PICTURES = 20
_NEW_PICTURES_S = 40.0  # the soak forgets a job after two minutes


class Crowd:
    """`run` keeps this number of jobs running; `ended` counts their ends."""

    def __init__(self, dice: Random, bus: Bus, http: httpx.AsyncClient) -> None:
        self._dice = dice
        self._bus = bus
        self._http = http
        self._pictures: list[str] = []
        self._sent = 0
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self.ended: Counter[str] = Counter()

    async def run(self, customers: int, closing: asyncio.Event) -> None:
        """Work until closing time, and until the last job has ended."""
        await self._bring_pictures()
        async with self._bus.subscribe(subjects.LIVE_ENDS, self._hear), asyncio.TaskGroup() as group:
            group.create_task(self._renew_pictures(closing), name="pictures")
            for number in range(customers):
                group.create_task(self._live(closing), name=f"customer-{number}")

    async def _renew_pictures(self, closing: asyncio.Event) -> None:
        while not await happens(closing, _NEW_PICTURES_S):
            await self._bring_pictures()

    async def _bring_pictures(self) -> None:
        """Upload pictures that the system has never seen, and use only them from now on."""
        self._sent += PICTURES
        files = [distinct(noise(16 + number), self._sent + number) for number in range(PICTURES)]
        answers = [await self._http.post("/v1/images", content=file) for file in files]
        self._pictures = [answer.raise_for_status().json()["sha256"] for answer in answers]

    def _hear(self, stored: StoredMessage) -> None:
        waiting = self._waiting.pop(subjects.job_of_event(stored.subject), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def _live(self, closing: asyncio.Event) -> None:
        while not closing.is_set():
            (kind,) = self._dice.choices(list(_KINDS), list(_KINDS.values()))
            await {"http": self._over_http, "cancelled": self._cancel}.get(kind, self._by_hand)(kind)
            self.ended[kind] += 1

    async def _by_hand(self, kind: str) -> None:
        job_id = uuid4().hex
        ended = self._waiting[job_id] = asyncio.get_running_loop().create_future()
        job_class = JobClass.BATCH if kind == "batch" else JobClass.INTERACTIVE
        body = self._dice.choice(bad_bodies(self._pictures[0])) if kind == "bad" else self._body(kind)
        user = f"u{self._dice.randint(1, 20)}"
        await self._bus.publish(subjects.submission(job_class, user, job_id), body, msg_id=job_id)
        async with asyncio.timeout(_TIMEOUT_S):
            await ended

    def _body(self, kind: str, prompt: str = _NOTHING) -> bytes:
        image, mask = self._dice.choices(self._pictures, k=2)
        task = self._dice.choice(["removal", "white-balance"])
        prompt = TRICKY if kind == "tricky" else prompt
        fields = {"task": task, "image": image, "mask": mask, "prompt": prompt, "steps": 1}
        return json.dumps({**fields, "seed": self._dice.randrange(2**31)}).encode()

    async def _over_http(self, kind: str) -> None:
        """Submit, follow the events to the end, fetch the result."""
        job_id = await self._order(self._body(kind, self._dice.choice([_NOTHING, _FEW_STEPS])))
        async with self._http.stream("GET", f"/v1/jobs/{job_id}/events", timeout=_TIMEOUT_S) as answer:
            async for _ in answer.aiter_bytes():
                pass
        (await self._http.get(f"/v1/jobs/{job_id}/result")).raise_for_status()

    async def _cancel(self, kind: str) -> None:
        job_id = await self._order(self._body(kind, _LONG))
        (await self._http.delete(f"/v1/jobs/{job_id}")).raise_for_status()

    async def _order(self, body: bytes) -> str:
        answer = await self._http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
        return str(answer.raise_for_status().json()["id"])
