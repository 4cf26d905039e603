"""Visitors of a system that is upgraded: requests of the web client and of /v1, each counted once with its outcome."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from PIL import Image

from tests.chaos.parts import happens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SIDE = 256
_TIMEOUT_S = 60.0
_PAUSE_S = 0.2
_AGAIN_S = 0.2
_NOT_FOUND = {404, 422}
_MISSED_S = 15.0
_ENDS = {"done", "failed", "cancelled", "error"}


@dataclass(frozen=True)
class Failure:
    """One request that failed, and when."""

    at_s: float
    phase: str
    request: str
    reason: str


def photo(dice: random.Random) -> bytes:
    """Return a picture that was never sent before, with a square in its middle."""
    out = io.BytesIO()
    red, green, blue = dice.randbytes(3)
    picture = Image.new("RGB", (SIDE, SIDE), (red, green, blue))
    picture.paste((255 - red, 255 - green, 255 - blue), (64, 64, 192, 192))
    picture.putpixel((0, 0), (dice.randrange(256), dice.randrange(256), dice.randrange(256)))
    picture.save(out, "PNG")
    return out.getvalue()


def mask() -> bytes:
    """Return a mask of a square."""
    out = io.BytesIO()
    picture = Image.new("L", (SIDE, SIDE))
    picture.paste(255, (64, 64, 160, 160))
    picture.save(out, "PNG")
    return out.getvalue()


class Visitors:
    """Several visitors at once; `failures` and `counts` record the outcomes of their requests."""

    def __init__(
        self, address: str, key: str, phase: Callable[[], str], seed: int, look: Callable[[str], Awaitable[str]]
    ) -> None:
        """`look` returns the broker's state of the images and jobs that a text names."""
        self._http = httpx.AsyncClient(
            base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT_S, trust_env=False
        )
        self._phase = phase
        self._look = look
        self._dice = random.Random(seed)  # noqa: S311 (pictures, no secrets)
        self._began = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.resumed = 0
        self.failures: list[Failure] = []
        self.ended: list[str] = []
        """Jobs of /v1 that were done."""

    async def stay(self, over: asyncio.Event) -> None:
        """Visit again and again, until it is over."""
        async with self._http:
            while not await happens(over, _PAUSE_S):
                await self.visit()

    async def visit(self) -> None:
        """Edit one photo by /v1, then by the web client's routes, and look at an earlier job."""
        stored = await self._ask("upload", "POST", "/v1/images", 201, content=photo(self._dice))
        if stored is None:
            return
        sha = stored.json()["sha256"]
        found = await self._ask("mask", "POST", "/v1/masks", 200, json={"image": sha, "points": [[128, 128, 1]]})
        if found is not None:
            region = {"image": sha, "mask": found.json()["sha256"]}
            await self._ask("extraction", "POST", "/v1/extractions", 201, json=region)
            await self._edit({"task": "removal", **region})
        await self._edit_as_the_web_client()
        if self.ended:
            earlier = self._dice.choice(self.ended)
            await self._ask("earlier job", "GET", f"/v1/jobs/{earlier}", 200)
            await self._ask("earlier result", "GET", f"/v1/jobs/{earlier}/result", 200)
        await self._look_at_list()

    async def _edit(self, body: dict[str, Any]) -> None:
        accepted = await self._ask("submit", "POST", "/v1/jobs", 202, json=body)
        if accepted is None:
            return
        job = accepted.json()["id"]
        end = await self._follow("stream", f"/v1/jobs/{job}/events", "event:")
        if end is None:
            return
        state = await self._ask("status", "GET", f"/v1/jobs/{job}", 200)
        if state is not None and state.json()["status"] != "done":
            self._fail("job", state.text)
        elif await self._ask("result", "GET", f"/v1/jobs/{job}/result", 200) is not None:
            self.ended.append(job)

    async def _edit_as_the_web_client(self) -> None:
        pictures = (base64.b64encode(each).decode() for each in (photo(self._dice), mask()))
        body = dict(zip(("input_image", "mask_image"), pictures, strict=True)) | {"prompt": "", "task_type": "removal"}
        accepted = await self._ask("web submit", "POST", "/api/generate/async", 200, json=body)
        if accepted is None:
            return
        job = accepted.json()["task_id"]
        if await self._follow("web stream", f"/api/generate/stream/{job}", "data:") == "error":
            self._fail("web job", "ended with an error")
        await self._ask("web result", "GET", f"/api/generate/result/{job}", 200)

    async def _look_at_list(self) -> None:
        listed = await self._ask("list", "GET", "/v1/jobs", 200)
        if listed is not None and self.ended and self.ended[-1] not in {job["id"] for job in listed.json()["jobs"]}:
            self._fail("list", f"it lacks {self.ended[-1]}, which is done")

    async def _ask(self, name: str, method: str, path: str, status: int, **given: Any) -> httpx.Response | None:
        self.counts[name] += 1
        try:
            answer = await self._http.request(method, path, **given)
        except httpx.HTTPError as error:
            self._fail(name, repr(error))
            return None
        if answer.status_code in {status, 200}:
            return answer
        reason = f"{answer.status_code} {answer.text[:300]}"
        if answer.status_code in _NOT_FOUND:
            reason += await self._ask_again(method, path, **given)
        self._fail(name, reason)
        return None

    async def _ask_again(self, method: str, path: str, **given: Any) -> str:
        """Repeat a request after a 404; return for how long the object was not found, and its stored state."""
        began = time.monotonic()
        stored = await self._look(f"{path} {given.get('json', '')}")
        while time.monotonic() - began < _MISSED_S:
            with contextlib.suppress(httpx.HTTPError):
                answer = await self._http.request(method, path, **given)
                if answer.is_success:
                    return f"; found {time.monotonic() - began:.1f} s later; the broker: {stored}"
            await happens(asyncio.Event(), _AGAIN_S)
        return f"; not found for {_MISSED_S:.0f} s; the broker: {stored}"

    async def _follow(self, name: str, path: str, field: str) -> str | None:
        """Read an event stream to its end, as a browser does: open it again where it breaks off."""
        self.counts[name] += 1
        seen, deadline = "", time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                headers = {"Last-Event-ID": seen} if seen else {}
                async with self._http.stream("GET", path, headers=headers) as answer:
                    if answer.status_code != httpx.codes.OK:
                        await answer.aread()
                        self._fail(name, f"{answer.status_code} {answer.text[:300]}")
                        return None
                    async for line in answer.aiter_lines():
                        if line.startswith("id:"):
                            seen = line[3:].strip()
                        if line.startswith(field) and (word := _word(line, field)) in _ENDS:
                            return word
            except httpx.HTTPError:
                pass
            self.resumed += 1
            await happens(asyncio.Event(), _AGAIN_S)
        self._fail(name, "no end within a minute")
        return None

    def _fail(self, name: str, reason: str) -> None:
        self.failures.append(Failure(time.monotonic() - self._began, self._phase(), name, reason))


def _word(line: str, field: str) -> str:
    text = line[len(field) :].strip()
    return str(json.loads(text).get("status", "")) if field == "data:" else text
