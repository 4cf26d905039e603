"""Keys as `make credentials` creates them, and nats-servers that require them, with TLS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import credentials
from services.stack.process import Process, ProcessGroup
from shared.bus import open_bus
from shared.settings import NatsSettings
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from typing import Self

    from shared.bus import Bus

HOST = "127.0.0.1"
NATS_SERVER = Path(sys.executable).parent / "nats-server"


@dataclass(frozen=True)
class Keys:
    """The folder that `make credentials` fills."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> Self:
        """Make them all."""
        credentials.make(folder)
        return cls(folder)

    def settings(self, url: str, user: str) -> NatsSettings:
        """Connect as this user would."""
        return NatsSettings(url=url, nkey_file=self.folder / user / "nats.nk", ca_file=self.folder / "ca.crt")

    def variables(self, url: str, user: str) -> dict[str, str]:
        """Return the same for a process."""
        files = {"NATS_NKEY_FILE": self.folder / user / "nats.nk", "NATS_CA_FILE": self.folder / "ca.crt"}
        return {"NATS_URL": url, **{name: str(path) for name, path in files.items()}}


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is one of those that a pattern of NATS means; a pattern is one that an equal or wider means."""
    wanted, given = pattern.split("."), subject.split(".")
    for number, part in enumerate(wanted):
        if part == ">":
            return len(given) > number
        if number >= len(given) or (part != given[number] and (part != "*" or given[number] == ">")):
            return False
    return len(wanted) == len(given)


class Node:
    """A nats-server started in the folder of its keys; it can be stopped and started again."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        keys: Keys,
        environment: dict[str, str],
        group: ProcessGroup,
        monitor: int | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """`environment` has the variables that the head of the configuration lists; `under` starts a tracer."""
        self.monitor_url = f"http://{HOST}:{monitor}"
        self.name = name
        self.url = f"tls://{environment['NATS_LISTEN']}"
        self._ready = asyncio.Event()
        self.said: list[str] = []
        self._program = Process(
            name,
            [*under, str(NATS_SERVER), *argv],
            group,
            env=environment,
            cwd=keys.folder / credentials.BROKER,
            on_line=self._read,
            on_output_end=self._ready.set,
        )

    async def start(self) -> None:
        """Start it (again) and return once clients can connect."""
        self._ready.clear()
        await self._program.start()
        await self._ready.wait()
        assert self._program.pid is not None, f"{self.name} ended: {self.said[-1:]}"

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        return self._program.pid

    def reload(self) -> None:
        """Have it read its users again."""
        assert self._program.pid is not None
        os.kill(self._program.pid, signal.SIGHUP)

    async def kill(self) -> None:
        """End it as a crash would."""
        self._program.kill()
        await self._program.wait()

    async def terminate(self) -> None:
        """End it in good order."""
        self._program.terminate()
        await self._program.wait()

    def _read(self, line: str) -> None:
        self.said.append(line)
        if line.endswith("Server is ready"):
            self._ready.set()


@asynccontextmanager
async def connect(keys: Keys, node: Node, user: str) -> AsyncIterator[Bus]:
    """Connect with the key of a service or of an operator."""
    async with open_bus(keys.settings(node.url, user), user) as bus:
        yield bus


@asynccontextmanager
async def run_locked(keys: Keys, store: Path, *arguments: str) -> AsyncIterator[Node]:
    """Provide the single server of deploy/nats-server.conf, but for its monitoring, which is on a port of its own."""
    monitor, port = free_ports(2)
    environment = {"NATS_LISTEN": f"{HOST}:{port}", "NATS_STORE": json.dumps(str(store))}
    argv = ["-c", "nats-server.conf", "-m", str(monitor), *arguments]
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(ProcessGroup())
        stack.callback(group.kill)
        node = Node("nats", argv, keys, environment, group, monitor)
        await node.start()
        yield node
        await node.kill()


@asynccontextmanager
async def cluster(
    keys: Keys, folder: Path, under: Callable[[str], Sequence[str]] = lambda _: ()
) -> AsyncIterator[list[Node]]:
    """Start three servers with deploy/nats-cluster.conf; yield them once each accepts connections.

    `under` returns the command that starts the server of a name under a tracer.
    """
    names = ("n1", "n2", "n3")
    addresses = [f"{HOST}:{port}" for port in free_ports(2 * len(names))]
    routes, clients = dict(zip(names, addresses, strict=False)), dict(zip(names, addresses[3:], strict=True))

    def environment(name: str) -> dict[str, str]:
        return {
            "NATS_NAME": name,
            "NATS_LISTEN": clients[name],
            "NATS_ROUTE_LISTEN": routes[name],
            "NATS_ROUTES": "[" + ", ".join(f"nats-route://{route}" for route in routes.values()) + "]",
            "NATS_STORE": json.dumps(str(folder / name)),
        }

    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(ProcessGroup())
        stack.callback(group.kill)
        nodes = [
            Node(name, ["-c", "nats-cluster.conf"], keys, environment(name), group, under=under(name)) for name in names
        ]
        await asyncio.gather(*(node.start() for node in nodes))
        yield nodes
        await asyncio.gather(*(node.kill() for node in nodes))
