"""Clients that submit jobs over HTTP and by hand, watch and cancel some, and record each accepted job."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from shared import subjects
from shared.errors import ArtMancerError
from tests.chaos.parts import happens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.bus import Bus
    from tests.chaos.load.orders import Order, Orders

_TIMEOUT_S = 20.0  # of one request; the gateway answers or dies
_AGAIN_S = 0.2
_WORDS = {"done": "done", "error": "failed", "cancelled": "cancelled"}


@dataclass(slots=True)
class Promise:
    """An accepted job, and the later responses about it."""

    job_id: str
    order: Order
    at: float  # seconds since the epoch
    log_seq: int | None = None  # of a hand-written job
    was_cancelled: bool = False
    streamed_end: str | None = None
    streams: int = 0


class Customers:
    """Submit at a steady rate until closing time, and watch until all watched jobs have ended."""

    def __init__(self, bus: Bus, http: httpx.AsyncClient, orders: Orders, pictures: tuple[bytes, bytes]) -> None:
        """`pictures` are the files of the photo and the mask."""
        self._bus = bus
        self._http = http
        self._orders = orders
        self._photo, self._mask = (base64.b64encode(picture).decode() for picture in pictures)
        self.promises: list[Promise] = []
        self.refused = 0

    async def shop(self, rate: float, closing: asyncio.Event, number_of: Callable[[], int]) -> None:
        """Submit `rate` jobs per second until closing time; return once every watched job has ended."""
        async with asyncio.TaskGroup() as tasks:
            while not await happens(closing, 1 / rate):
                number = number_of()
                tasks.create_task(self._live(next(self._orders), f"c{number}"), name=f"customer-{number}")

    async def _live(self, order: Order, job_id: str) -> None:
        promise = await (self._order(order) if order.over_http else self._write(order, job_id))
        if promise is None:
            self.refused += 1
            return
        self.promises.append(promise)
        async with asyncio.TaskGroup() as tasks:
            mine = order.user == "local" and order.bad_id is None
            if mine and order.watched:
                tasks.create_task(self._watch(promise), name=f"watch-{promise.job_id}")
            if mine and order.cancel_after_s is not None:
                tasks.create_task(self._cancel(promise, order.cancel_after_s), name=f"cancel-{promise.job_id}")

    async def _order(self, order: Order) -> Promise | None:
        body = {"prompt": order.prompt, "input_image": self._photo, "mask_image": self._mask, "task_type": "removal"}
        try:
            answer = await self._http.post("/api/generate/async", json=body, timeout=_TIMEOUT_S)
        except httpx.HTTPError:
            return None
        if answer.status_code != httpx.codes.OK:
            return None
        return Promise(answer.json()["task_id"], order, time.time())

    async def _write(self, order: Order, job_id: str) -> Promise | None:
        subject = subjects.submission(order.job_class, order.user, job_id)
        if order.bad_id is not None:
            subject = subject.removesuffix(job_id) + order.bad_id
        try:
            seq = await self._bus.publish(subject, order.body, msg_id=job_id)
        except ArtMancerError:
            return None
        return Promise(job_id if order.bad_id is None else subjects.unnamed_id(seq), order, time.time(), log_seq=seq)

    async def _cancel(self, promise: Promise, after_s: float) -> None:
        await happens(asyncio.Event(), after_s)
        try:
            answer = await self._http.post(f"/api/generate/async/cancel/{promise.job_id}", timeout=_TIMEOUT_S)
        except httpx.HTTPError:
            return
        if answer.status_code == httpx.codes.OK:
            promise.was_cancelled = answer.json()["message"] == "The job is cancelled."

    async def _watch(self, promise: Promise) -> None:
        """Follow the stream to the end as a browser does: reopen it after a disconnect."""
        while promise.streamed_end is None:
            try:
                async for status in self._stream(promise):
                    promise.streamed_end = _WORDS.get(status)
            except httpx.HTTPError:
                await happens(asyncio.Event(), _AGAIN_S)

    async def _stream(self, promise: Promise) -> AsyncIterator[str]:
        async with self._http.stream("GET", f"/api/generate/stream/{promise.job_id}", timeout=_TIMEOUT_S) as answer:
            answer.raise_for_status()
            promise.streams += 1
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])["status"]
