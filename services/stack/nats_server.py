"""Runs nats-server as a child process, with JetStream and a store on disk, on loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import os
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
_LOG_PREFIX = re.compile(r"^\[\d+\] \S+ \S+ ")
_READY = "Server is ready"
_INFO_LEVEL = "[INF]"
_DISK_FULL = "no space left on device"
_MIN_FREE_BYTES, _POLL_S = 32 * 1024**2, 0.5
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
    """One nats-server: `async with NatsServer(folder) as server:`. It cannot form a cluster.

    Without a port, the server chooses a free one at its first start and keeps it over restarts. The store stays when
    the server ends. The start is detected from the server's output, because another server may listen on the same port.
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
        """`on_line` gets warnings and errors; `monitor_port` opens HTTP monitoring on loopback.

        Without `max_store_bytes` the server limits its store to three quarters of the free disk space.
        """
        self._store = store
        self._port = port
        self._monitor_port = monitor_port
        self._limit = "" if max_store_bytes is None else f"max_file_store: {max_store_bytes}"
        self._on_line = on_line
        self._last_warning = ""
        self._owns_group = group is None
        self._group = group or ProcessGroup()
        self._disk_full = asyncio.Event()
        self._started = asyncio.Event()  # set when the server is ready, or when its output has ended
        self._ready = False
        self._process = self._create_process()

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
        """The URL that clients connect to."""
        return f"nats://{HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id, or None while the server does not run."""
        return self._process.pid

    async def start(self) -> None:
        """Start the server and return once it serves. Raises ConfigError if it cannot."""
        self._started = asyncio.Event()
        self._ready = False
        self._write_config()
        await self._process.start()
        await self._started.wait()
        if not self._ready:
            await self._process.wait()
            if "address already in use" in self._last_warning:
                raise ConfigError(f"Port {self._port} is in use by another program: stop it.")
            raise ConfigError(f"nats-server ended: {self._last_warning}")

    async def wait(self) -> int:
        """Return the exit code once the server has ended."""
        return await self._process.wait()

    async def restart_after_full_disk(self) -> None:
        """Terminate the server each time a full disk has free space again, so that its supervisor restarts it.

        Stored messages are safe, but a stream with a failed write stays closed until a restart. Runs until cancelled.
        """
        while True:
            await self._disk_full.wait()
            while not self._has_free_space():  # noqa: ASYNC110 (a file system has no event for free space)
                await asyncio.sleep(_POLL_S)
            self._disk_full.clear()
            self._on_line("The disk was full and has free space again; restarting nats-server to reopen its streams.")
            self.terminate()

    def terminate(self) -> None:
        """Request the end of the server."""
        self._process.terminate()

    async def stop(self) -> None:
        """Terminate the server, and kill it if that takes too long."""
        if self.pid is not None:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _STOP_S)
            await self.kill()

    async def kill(self) -> None:
        """Kill the server, as a crash would."""
        if self.pid is not None:
            self._process.kill()
            await self._process.wait()

    def _create_process(self) -> Process:
        return Process(
            "nats",
            [str(Path(sys.executable).parent / "nats-server"), "-c", str(self._config)],
            self._group,
            # Without a limit its file caches grow to 600 MB after 300 MB of images.
            env={"GOMEMLIMIT": "256MiB"},
            on_line=self._read_line,
            on_output_end=self._end_wait,
        )

    @property
    def _config(self) -> Path:
        return self._store.parent / f"{self._store.name}.conf"

    def _has_free_space(self) -> bool:
        try:
            return shutil.disk_usage(self._store).free >= _MIN_FREE_BYTES
        except OSError:  # the folder was removed
            return False

    def _write_config(self) -> None:
        monitor = "" if self._monitor_port is None else f'http: "{HOST}:{self._monitor_port}"'
        self._store.mkdir(parents=True, exist_ok=True)
        store = _quote(self._store.resolve())
        self._config.write_text(
            _CONFIG.format(host=HOST, port=self._port or -1, store=store, monitor=monitor, limit=self._limit)
        )

    def _end_wait(self) -> None:
        self._started.set()

    def _read_line(self, line: str) -> None:
        if listening := _LISTENING.search(line):
            self._port = int(listening[1])
        if _DISK_FULL in line:
            self._disk_full.set()
        if line.endswith(_READY):
            self._ready = True
            self._started.set()
        if _INFO_LEVEL not in line:
            self._last_warning = _LOG_PREFIX.sub("", line)
            self._on_line(self._last_warning)


def _quote(path: Path) -> str:
    r"""Return the path as a string of nats-server's configuration, which has no `\u` and takes bytes as `\xNN`."""
    plain = set(range(0x20, 0x7F)) - set(b'"\\')
    quoted = "".join(chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f'"{quoted}"'
