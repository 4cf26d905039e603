"""The parts of the system as processes. Each restarts soon after it ends, so that faults always find one."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psutil

from services.stack.health import stack_is_healthy
from services.stack.nats_server import HOST, NatsServer
from services.stack.process import Process, ProcessGroup
from tests.ports import free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from services.stack.supervisor import Startable

_PAUSE_S = 0.2
_START_S = 60.0
_STOP_S = 60.0  # a busy machine is slow to end a process
SERVICES = ("gateway", "segmentation", "imageutils", "jobmanager")


class Parts:
    """All parts by name; `nats` is one of them."""

    def __init__(self, server: NatsServer, programs: dict[str, Process], port: int) -> None:
        self._programs: dict[str, NatsServer | Process] = {"nats": server, **programs}
        self.over = asyncio.Event()
        self.port = port
        self.server = server

    @property
    def processes(self) -> dict[str, psutil.Process]:
        """Return the running processes."""
        found = {name: _process(part) for name, part in sorted(self._programs.items())}
        return {name: process for name, process in found.items() if process is not None}

    @property
    def names(self) -> list[str]:
        """Return the names of all parts, in a fixed order."""
        return sorted(self._programs)

    def send(self, name: str, number: signal.Signals) -> bool:
        """Send a signal. Return False if the part does not run."""
        try:
            process = _process(self._programs[name])
            if process is not None:
                process.send_signal(number)
        except psutil.NoSuchProcess:
            return False
        return process is not None

    async def keep(self, name: str) -> None:
        """Restart the part whenever it has ended, until `stop`."""
        part: Startable = self._programs[name]
        while not self.over.is_set():
            if name != "nats" or self.server.pid is None:
                await part.start()
            await part.wait()
            await happens(self.over, _PAUSE_S)

    async def stop(self) -> None:
        """Stop the services, then nats-server. Fails if one does not end."""
        self.over.set()
        services = [part for name, part in self._programs.items() if name != "nats"]
        for part in services:
            part.terminate()
        await wait_until(lambda: all(part.pid is None for part in services), "the services have ended", _STOP_S)
        self.server.terminate()
        await wait_until(lambda: self.server.pid is None, "nats-server has ended", _STOP_S)


def _process(part: NatsServer | Process) -> psutil.Process | None:
    """Return the process if it runs. One that has just ended may still count as running."""
    try:
        return None if part.pid is None else psutil.Process(part.pid)
    except psutil.NoSuchProcess:
        return None


@asynccontextmanager
async def running(
    folder: Path,
    workers: int,
    environment: Mapping[str, str],
    on_line: Callable[[str, str], None],
    launch: tuple[str, ...] = ("-m",),
    max_store_bytes: int | None = None,
    variables_of: Callable[[str], dict[str, str]] | None = None,
) -> AsyncIterator[Parts]:
    """Run the whole system while the block runs; `on_line` gets the name of a part and a line of its output.

    `launch` are the arguments between `python` and the module of a service, and `variables_of` returns what the
    environment of one service has besides.
    """

    def lines_of(name: str) -> Callable[[str], None]:
        return lambda line: on_line(name, line)

    async with ProcessGroup() as group:
        server = NatsServer(folder / "nats", group=group, max_store_bytes=max_store_bytes, on_line=lines_of("nats"))
        await server.start()
        port = free_port()
        own = {**environment, "NATS_URL": server.url, "GATEWAY_PORT": str(port), "PYTHONUNBUFFERED": "1"}
        modules = {name: name for name in SERVICES} | {f"worker-{n}": "a100worker" for n in range(1, workers + 1)}
        programs = {
            name: Process(
                name,
                [sys.executable, *launch, f"services.{module}"],
                group,
                env={**own, **(variables_of(name) if variables_of else {})},
                on_line=lines_of(name),
            )
            for name, module in modules.items()
        }
        parts = Parts(server, programs, port)
        async with asyncio.TaskGroup() as tasks:
            for name in parts.names:
                tasks.create_task(parts.keep(name), name=f"keep-{name}")
            try:
                await wait_until(lambda: stack_is_healthy(HOST, port), "all parts are healthy", _START_S)
                yield parts
                await parts.stop()
                _nobody_left(group)
            finally:
                parts.over.set()
                group.kill()


def _nobody_left(group: ProcessGroup) -> None:
    """Fail if a process of the group still runs. Its guard, a shell, ends with the group."""
    left = [process.name() for process in psutil.Process().children(recursive=True) if process.pid != group.id]
    assert not left, f"These processes are left: {left}."


async def happens(event: asyncio.Event, within_s: float) -> bool:
    """Wait for the event. Return False after the timeout."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
