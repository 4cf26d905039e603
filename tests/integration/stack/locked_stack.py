"""The five services as processes, each with its own key, over TLS, at a broker that logs their messages.

The gateway requires API keys as well: both sides are locked as by `make secrets` and compose.yaml.
"""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy import access
from deploy.credentials import BROKER
from deploy.permissions import DUTIES
from services.gateway import keys as gateway_keys
from services.gateway.access.principal import KeyScope
from services.stack.health import stack_is_healthy
from services.stack.process import Process, ProcessGroup
from services.stack.stack import Service, all_services
from tests.gateway import Client
from tests.keys import HOST, Keys, Node, run_locked
from tests.ports import free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ACCESS = "access"
START_S = 60.0
_SAID = re.compile(r'python3:([a-z0-9]+)" - .*<<- \[H?(PUB|SUB) (\S+)')  # as `nats-server -V` writes it


@dataclass
class LockedStack:
    """A running system, and the log of its broker."""

    keys: Keys
    broker: Node
    client: Client
    """Has a key that may do everything."""
    nobody: Client
    programs: dict[str, Process]
    lines: list[str] = field(default_factory=list)

    def violations(self) -> list[str]:
        """Return the lines of the log in which the broker refused a message."""
        return [line for line in self.broker.said if "Violation" in line]

    def used(self) -> dict[str, dict[str, set[str]]]:
        """Return the subjects that each service has published to (PUB) and subscribed to (SUB)."""
        used: defaultdict[str, dict[str, set[str]]] = defaultdict(lambda: {"PUB": set(), "SUB": set()})
        for line in self.broker.said:
            if said := _SAID.search(line):
                used[said[1]][said[2]].add(said[3])
        return dict(used)


@asynccontextmanager
async def locked_stack(folder: Path) -> AsyncIterator[LockedStack]:
    """Everything, healthy."""
    keys = Keys.made(folder / "keys")
    configuration = keys.folder / BROKER / "nats-server.conf"
    configuration.write_text(configuration.read_text() + "\nmax_traced_msg_len: 1 # pictures are not for the log\n")
    access.make(folder / ACCESS)
    key = gateway_keys.new(folder / ACCESS / "keys.json", "owner", frozenset(KeyScope), None)
    lines: list[str] = []
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(run_locked(keys, folder / "store", "-V"))
        port = free_port()  # not before the broker has its own
        group = await stack.enter_async_context(ProcessGroup())
        stack.callback(group.kill)
        programs = {
            service.name: _program(service, _own_variables(keys, broker.url, service.name, folder), port, group, lines)
            for service in all_services(1)
        }
        for program in programs.values():
            await program.start()
        client = await stack.enter_async_context(Client(port, key))
        nobody = await stack.enter_async_context(Client(port))
        running = LockedStack(keys, broker, client, nobody, programs, lines)
        try:
            await wait_until(lambda: stack_is_healthy(HOST, port), "all services are healthy", timeout_s=START_S)
        except AssertionError as late:
            late.add_note("\n".join([*lines, *running.violations()]))
            raise
        yield running
        for program in programs.values():
            program.kill()
            await program.wait()


def _own_variables(keys: Keys, url: str, service: str, folder: Path) -> dict[str, str]:
    webhooks = {
        "WEBHOOKS_ALLOW_HTTP": "true",
        "WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8",
        "JOBMANAGER_WEBHOOKS_NKEY_FILE": str(keys.folder / "webhooks/nats.nk"),
        "JOBMANAGER_WEBHOOKS_RETRY_S": "0.1,0.1,0.1",
    }
    return keys.variables(url, service) | _access(folder) | webhooks


def _access(folder: Path) -> dict[str, str]:
    return {
        "GATEWAY_ACCESS": "keys",
        "GATEWAY_KEYS_FILE": str(folder / ACCESS / "keys.json"),
        "GATEWAY_SIGNING_KEY_FILE": str(folder / ACCESS / "signing.key"),
        "GATEWAY_KEY_RATE_PER_S": "1000",  # tests look often
        "GATEWAY_KEY_BURST": "10000",
    }


def _program(service: Service, own: dict[str, str], port: int, group: ProcessGroup, lines: list[str]) -> Process:
    assert service.name in DUTIES
    environment = {
        **own,
        "GATEWAY_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "STREAMS_PICTURE_BYTES": str(1024**3),
        "STREAMS_MAX_DELIVER": "1",
        "STREAMS_MAX_HANDBACKS": "0",
        "A100WORKER_DRAIN_S": "0.2",
        "LOG_LEVEL": "WARNING",
        "PYTHONUNBUFFERED": "1",
    }
    return Process(
        service.name, service.argv, group, env=environment, on_line=lambda line: lines.append(f"{service.name}: {line}")
    )
