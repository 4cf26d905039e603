"""One decoding child, as the gateway sees it. It may die at any file; then a new child replaces it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.gateway.decoding.wire import SIZE
from shared.lifecycle import race

if TYPE_CHECKING:
    from asyncio.subprocess import Process

_ROOT = Path(__file__).resolve().parents[3]
OWN_BYTES = 48_000_000
"""What the interpreter and Pillow take, and what malloc keeps."""
_LOOK_EVERY_S = 0.1
_COPIED_BYTES = 65_536
_FIRST_BYTES = 4096  # a verdict
_HAS_PROC = Path("/proc/self/statm").exists()  # not on macOS
_WALL_S = 60.0  # the child limits its CPU time; this is for a machine that gives it none


class ChildDiedError(Exception):
    """The child has ended or was killed: the file takes too much time or memory, or crashes the decoder."""


class ChildProcess:
    """A child with one request at a time. After an error of `ask` or a cancel it is dead."""

    def __init__(self, process: Process, channel: socket.socket, limit_bytes: int) -> None:
        """`limit_bytes` is for the whole process, beside the file."""
        self._process = process
        self._channel = channel
        self._limit_bytes = limit_bytes

    @classmethod
    async def start(cls, limit_bytes: int, stderr: int, own_bytes: int = OWN_BYTES) -> ChildProcess:
        """Start a child whose works may take `limit_bytes` of memory. It writes its warnings to `stderr`.

        It is killed when it has more than that and `own_bytes`.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)  # noqa: FBT003 (it takes no keyword)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "services.gateway.decoding.child", str(limit_bytes)),
                    cwd=_ROOT,
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=stderr,
                    process_group=0,  # so that Ctrl-C in a terminal does not reach it
                )
            except BaseException:
                ours.close()
                raise
        return cls(process, ours, limit_bytes + own_bytes)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended and is no zombie."""
        return self._process.returncode is not None

    def is_alive(self) -> bool:
        """Return whether it can take a request. The end of its socket is known before the end of its process."""
        if self._process.returncode is not None or self._channel.fileno() < 0:
            return False
        try:
            return bool(self._channel.recv(1, socket.MSG_PEEK))
        except BlockingIOError:  # open, and nothing to read
            return True
        except OSError:
            return False

    async def ask(self, work: str, data: bytes) -> tuple[bytes, bytes]:
        """Return kind and content of the reply to one file. Raises ChildDiedError."""
        try:
            async with asyncio.timeout(_WALL_S):
                asking, _ = await race(self._exchange(work, data), self._watch_memory(len(data)))
        except (TimeoutError, OSError, EOFError) as error:
            raise ChildDiedError from error
        return asking.result() if not asking.cancelled() else _raise_died()

    def disconnect(self) -> None:
        """Close the socket; the child ends after the file at hand."""
        self._channel.close()

    def kill(self) -> None:
        """End the child at once."""
        self._channel.close()
        if self._process.returncode is None:
            self._process.kill()

    async def wait(self) -> None:
        """Wait for the end of the process."""
        await self._process.wait()

    async def _exchange(self, work: str, data: bytes) -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        name = work.encode()
        head = bytes([len(name)]) + name + SIZE.pack(len(data))
        if len(data) <= _COPIED_BYTES:  # in one piece, which wakes the child once
            await loop.sock_sendall(self._channel, head + data)
        else:
            await loop.sock_sendall(self._channel, head)
            await loop.sock_sendall(self._channel, data)
        return await self._read_reply()

    async def _read_reply(self) -> tuple[bytes, bytes]:
        loop = asyncio.get_running_loop()
        first = b""
        while len(first) <= SIZE.size:
            got = await loop.sock_recv(self._channel, _FIRST_BYTES)
            if not got:
                raise EOFError
            first += got
        (size,), begun = SIZE.unpack_from(first, 1), first[1 + SIZE.size :]
        return first[:1], b"".join([begun, await self._read(size - len(begun))])

    async def _read(self, size: int) -> bytearray:
        loop = asyncio.get_running_loop()
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            got = await loop.sock_recv_into(self._channel, view[at:])
            if not got:
                raise EOFError
            at += got
        return data

    async def _watch_memory(self, file_bytes: int) -> None:
        """Return when the child takes more than its work may take."""
        resident, limit = 0, self._limit_bytes + 2 * file_bytes
        while resident <= limit:
            await asyncio.sleep(_LOOK_EVERY_S)  # first: most files take less time
            resident = await resident_bytes(self.pid)


def _raise_died() -> tuple[bytes, bytes]:
    raise ChildDiedError


async def resident_bytes(pid: int) -> int:
    """Return the memory of a process; 0 if it has ended."""
    if _HAS_PROC:
        return _resident_on_linux(pid)
    listing = await asyncio.create_subprocess_exec("ps", "-o", "rss=", "-p", str(pid), stdout=asyncio.subprocess.PIPE)
    kibibytes, _ = await listing.communicate()
    return int(kibibytes or 0) * 1024


def _resident_on_linux(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
