"""Decodes the files of clients in child processes, within a budget of memory and CPU time.

A file of 200 kB can have 64 megapixels, and a decoder can crash or hang at a file that was made for it. So this process
never opens a picture. There are two pools: most files need little memory and go to the quick children. The others go to
one larger child, one at a time: they take the memory of one file, and delay only each other.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from services.gateway.access.token_bucket import TokenBucket
from services.gateway.decoding.child_process import ChildDiedError, ChildProcess
from services.gateway.decoding.wire import NEEDS, REFUSAL
from services.gateway.http.client import current_owner, unless_disconnected
from shared.errors import BadImage, Busy, TooLarge, from_code
from shared.memory_budget import MemoryBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

QUICK_BYTES = 20_000_000
"""Memory for one file in each of the quick children: a picture of five megapixels."""
LARGE_BYTES = 272_000_000
"""Memory for one file in the larger child: four bytes for each of 67 million pixels, the most that is accepted."""
_PNGS_BYTES = 128 * 1024**2  # of converted pictures that are being sent
_PNG_SHARE_BYTES = 96 * 1024**2  # for one owner, in case of slow reading; a larger picture counts as this
_PNG_WAIT_S = 15.0
_BUSY = "The server is sending too many large pictures at the moment; please try again in a few seconds."
_WARNINGS_PER_S, _WARNINGS = 1.0, 20
_LONGEST_WARNING = 300
_TOO_EXPENSIVE = "Decoding this image takes too much time or memory; save it as PNG and send it again."
log = logging.getLogger(__name__)


class Decoders:
    """A small pool of children, each started when a file needs it. Use it with `async with`, which ends them."""

    def __init__(self, quick_children: int) -> None:
        self._quick_children = quick_children
        self._pngs = MemoryBudget(_PNGS_BYTES)
        self._png_shares: WeakValueDictionary[str, MemoryBudget] = WeakValueDictionary()

    async def __aenter__(self) -> Self:
        read_end, self._write_end = os.pipe()
        self._warnings, _ = await asyncio.get_running_loop().connect_read_pipe(_Warnings, os.fdopen(read_end, "rb"))
        self._quick = _Pool(self._quick_children, QUICK_BYTES, self._write_end)
        self._large = _Pool(1, LARGE_BYTES, self._write_end)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._quick.close()
        await self._large.close()
        os.close(self._write_end)
        self._warnings.close()

    @property
    def pids(self) -> list[int]:
        """The ids of the running children."""
        return [child.pid for pool in (self._quick, self._large) for child in pool.children if child.is_alive()]

    async def describe(self, data: bytes) -> dict[str, Any]:
        """Return width, height, content type and notes of an image. Raises BadImage, TooLarge, ClientDisconnect."""
        return dict(json.loads(await self._run("describe", data)))

    async def probe(self, data: bytes) -> tuple[int, int, str, list[str]]:
        """Return the same in the form that the image store wants."""
        found = await self.describe(data)
        return found["width"], found["height"], found["content_type"], found["notes"]

    async def describe_mask(self, data: bytes) -> dict[str, Any]:
        """Return the same and `empty`: whether no pixel is bright. Raises BadImage, TooLarge, ClientDisconnect."""
        return dict(json.loads(await self._run("mask", data)))

    async def convert_to_png(self, data: bytes) -> bytes:
        """Return the upright image as a PNG file. Raises BadImage, TooLarge, ClientDisconnect."""
        return await self._run("convert", data)

    @asynccontextmanager
    async def room_for_png(self, pixels: int) -> AsyncIterator[None]:
        """Reserve memory for a picture from `convert_to_png`, for as long as it is sent. Raises Busy."""
        size_bytes = min(pixels * 3, _PNG_SHARE_BYTES)
        share = self._png_shares.setdefault(current_owner(), MemoryBudget(_PNG_SHARE_BYTES))
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(_PNG_WAIT_S):
                    await held.enter_async_context(share.reserve(size_bytes))
                    await held.enter_async_context(self._pngs.reserve(size_bytes))
            except TimeoutError:
                raise Busy(_BUSY) from None
            yield

    async def convert_alpha_mask(self, data: bytes) -> bytes:
        """Return a mask, white where the file is transparent, as PNG. Raises BadInput, TooLarge, ClientDisconnect."""
        return await self._run("alpha", data)

    async def _run(self, work: str, data: bytes) -> bytes:
        return await unless_disconnected(self._ask(work, data))

    async def _ask(self, work: str, data: bytes) -> bytes:
        try:
            kind, content = await self._quick.ask(work, data)
            if kind == NEEDS:
                kind, content = await self._large.ask(work, data)
        except ChildDiedError:
            log.warning("decoder.died", extra={"work": work, "file_bytes": len(data)})
            raise BadImage(_TOO_EXPENSIVE) from None
        if kind == NEEDS:
            needed_mb, allowed_mb = int(content) // 10**6, LARGE_BYTES // 10**6
            raise TooLarge(
                f"Decoding this image takes {needed_mb} MB of memory and {allowed_mb} MB are allowed; "
                "save it as PNG, or make it smaller."
            )
        if kind == REFUSAL:
            raise from_code(*json.loads(content))
        return content


class _Pool:
    """Children with the same limit. Each owner has one file at a time waiting for them, so that owners take turns."""

    def __init__(self, children: int, limit_bytes: int, stderr: int) -> None:
        self._limit_bytes = limit_bytes
        self._stderr = stderr
        self._places = asyncio.Semaphore(children)
        self._at_once = children
        self._idle: list[ChildProcess] = []
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self.children: set[ChildProcess] = set()

    async def ask(self, work: str, data: bytes) -> tuple[bytes, bytes]:
        """Wait for a child and return its reply. Raises ChildDiedError."""
        owner = current_owner()
        turn = self._turns.setdefault(owner, asyncio.Semaphore(self._at_once))
        async with turn, self._places:
            child = await self._take()
            try:
                reply = await child.ask(work, data)
            except BaseException:  # also a cancel: the child still works for a client that has gone
                child.kill()
                raise
            self._idle.append(child)
            return reply

    async def close(self) -> None:
        """End all children."""
        for child in self.children:
            child.kill()
        for child in self.children:
            await child.wait()

    async def _take(self) -> ChildProcess:
        while self._idle:
            child = self._idle.pop()  # the last one used: its memory is warm
            if child.is_alive():
                return child
            child.kill()
        return await self._start()

    async def _start(self) -> ChildProcess:
        self.children = {child for child in self.children if not child.has_ended}
        child = await ChildProcess.start(self._limit_bytes, self._stderr)
        self.children.add(child)
        return child


class _Warnings(asyncio.Protocol):
    """Logs the output of decoders. Clients' files cause this output, so its amount and its rate are limited."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(_WARNINGS_PER_S, _WARNINGS, asyncio.get_running_loop().time())

    def data_received(self, data: bytes) -> None:
        """Log each line."""
        for line in data.decode(errors="replace").splitlines():
            now = asyncio.get_running_loop().time()
            if line.strip() and not self._bucket.wait_s(now):
                self._bucket.take(now)
                log.info("decoder.warned", extra={"text": line[:_LONGEST_WARNING]})
