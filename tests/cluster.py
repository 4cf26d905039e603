"""Three nats-servers on loopback, started as deploy/nats-cluster.conf says; each can be stopped and started again."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from services.devstack import free_port
from services.program import ROOT, ProcessGroup, Program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"
CONFIG = ROOT / "deploy/nats-cluster.conf"
NATS_SERVER = Path(sys.executable).parent / "nats-server"


class Node:
    """One server of the cluster."""

    def __init__(self, name: str, port: int, environment: dict[str, str], group: ProcessGroup) -> None:
        self.name = name
        self.url = f"nats://{HOST}:{port}"
        self._ready = asyncio.Event()
        self._last_words = ""
        self._program = Program(
            name,
            [str(NATS_SERVER), "-c", str(CONFIG)],
            group,
            env=environment,
            on_line=self._read,
            on_silence=self._ready.set,
        )

    async def start(self) -> None:
        """Start it (again) and return once clients can connect."""
        self._ready.clear()
        await self._program.start()
        await self._ready.wait()
        assert self._program.pid is not None, f"{self.name} ended: {self._last_words}"

    async def kill(self) -> None:
        """End it as a crash would."""
        self._program.kill()
        await self._program.wait()

    async def terminate(self) -> None:
        """End it in good order."""
        self._program.terminate()
        await self._program.wait()

    def _read(self, line: str) -> None:
        self._last_words = line
        if line.endswith("Server is ready"):
            self._ready.set()


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[list[Node]]:
    """Three servers that know of one another; yields them once each takes connections."""
    names = ("n1", "n2", "n3")
    ports = {name: free_port(HOST, 0) for name in names}
    routes = {name: f"{HOST}:{free_port(HOST, 0)}" for name in names}

    def environment(name: str) -> dict[str, str]:
        return {
            "NATS_NAME": name,
            "NATS_LISTEN": f"{HOST}:{ports[name]}",
            "NATS_ROUTE_LISTEN": routes[name],
            "NATS_ROUTES": "[" + ", ".join(f"nats-route://{route}" for route in routes.values()) + "]",
            "NATS_STORE": json.dumps(str(folder / name)),
        }

    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(ProcessGroup())
        stack.callback(group.kill)
        nodes = [Node(name, ports[name], environment(name), group) for name in names]
        await asyncio.gather(*(node.start() for node in nodes))
        yield nodes
        await asyncio.gather(*(node.kill() for node in nodes))
