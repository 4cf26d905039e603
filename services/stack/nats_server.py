"""A nats-server of our own as a child process: JetStream, a store on disk, loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from services.stack.process import Process, ProcessGroup
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

HOST = "127.0.0.1"
_LISTENING = re.compile(r"Listening for client connections on \S+:(\d+)$")
_STAMP = re.compile(r"^\[\d+\] \S+ \S+ ")
_READY = "Server is ready"
_CHATTER = "[INF]"
_DISK_FULL = "no space left on device"
_ROOM_BYTES, _LOOK_EVERY_S = 32 * 1024**2, 0.5
_STOP_S = 3.0
_CONFIG = """\
server_name: "artmancer"
host: "{host}"
port: {port}
max_payload: 2MB
{monitor}
jetstream {{
  store_dir: {store}
  sync_interval: 10s
  {limit}
}}
"""


class NatsServer:
    """One nats-server, `async with NatsServer(folder) as server:`; for a cluster use nats-server itself.

    Without a port the server picks a free one at its first start, and keeps it over restarts. What it stores outlives
    it. The words "Server is ready" in its own output are the proof that it is this server that answers on the port.
    """

    def __init__(
        self,
        store: Path,
        port: int | None = None,
        *,
        group: ProcessGroup | None = None,
        monitor_port: int | None = None,
        max_store_bytes: int | None = None,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_line` gets its warnings and errors; `monitor_port` opens its HTTP monitoring on loopback.

        Without `max_store_bytes` the server takes three quarters of what is free on the disk as its limit.
        """
        self._store = store
        self._port = port
        self._monitor_port = monitor_port
        self._limit = "" if max_store_bytes is None else f"max_file_store: {max_store_bytes}"
        self._on_line = on_line
        self._last_words = ""
        self._owns_group = group is None
        self._group = group or ProcessGroup()
        self._disk_full = asyncio.Event()
        self._told = asyncio.Event()  # it is ready, or has fallen silent before
        self._ready = False
        self._program = Process(
            "nats",
            [str(Path(sys.executable).parent / "nats-server"), "-c", str(self._config)],
            self._group,
            # Its file caches grow to 600 MB after 300 MB of pictures if nothing holds them back.
            env={"GOMEMLIMIT": "256MiB"},
            on_line=self._read,
            on_output_end=self._silent,
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as undo:
            if self._owns_group:
                await undo.enter_async_context(self._group)
            undo.push_async_callback(self.stop)
            await self.start()
            self._undo = undo.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._undo.aclose()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        return self._program.pid

    async def start(self) -> None:
        """Start it (again) and return once it serves. Raises ConfigError when it cannot."""
        self._told = asyncio.Event()
        self._ready = False
        self._write_config()
        await self._program.start()
        await self._told.wait()
        if not self._ready:
            await self._program.wait()
            taken = "address already in use" in self._last_words
            raise ConfigError(f"Port {self._port} is in use." if taken else f"nats-server ended: {self._last_words}")

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        return await self._program.wait()

    async def restart_after_full_disk(self) -> None:
        """Have it end, for whoever keeps it to start it again, each time its disk was full and has room; never returns.

        What is stored is safe, but a stream that could not be written stays closed as long as the server lives.
        """
        while True:
            await self._disk_full.wait()
            while not self._has_room():  # noqa: ASYNC110 (a disk tells nobody that something was removed)
                await asyncio.sleep(_LOOK_EVERY_S)
            self._disk_full.clear()
            self._on_line("The disk was full and has room again: nats-server starts anew, to open its streams.")
            self.terminate()

    def terminate(self) -> None:
        """Ask it to end."""
        self._program.terminate()

    async def stop(self) -> None:
        """End it in good order, by force where that takes too long."""
        if self.pid is not None:
            self._program.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._program.wait(), _STOP_S)
            await self.kill()

    async def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if self.pid is not None:
            self._program.kill()
            await self._program.wait()

    @property
    def _config(self) -> Path:
        return self._store.parent / f"{self._store.name}.conf"

    def _has_room(self) -> bool:
        try:
            return shutil.disk_usage(self._store).free >= _ROOM_BYTES
        except OSError:  # somebody has removed all of it
            return False

    def _write_config(self) -> None:
        monitor = "" if self._monitor_port is None else f'http: "{HOST}:{self._monitor_port}"'
        self._store.mkdir(parents=True, exist_ok=True)
        store = json.dumps(str(self._store.resolve()))
        self._config.write_text(
            _CONFIG.format(host=HOST, port=self._port or -1, store=store, monitor=monitor, limit=self._limit)
        )

    def _silent(self) -> None:
        self._told.set()

    def _read(self, line: str) -> None:
        if listening := _LISTENING.search(line):
            self._port = int(listening[1])
        if _DISK_FULL in line:
            self._disk_full.set()
        if line.endswith(_READY):
            self._ready = True
            self._told.set()
        if _CHATTER not in line:
            self._last_words = _STAMP.sub("", line)
            self._on_line(self._last_words)
