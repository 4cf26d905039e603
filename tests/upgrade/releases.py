"""The services of two releases beside one another, each from its own tree, at one broker that requires keys."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

from deploy.permissions import OPERATOR
from services.stack.process import ROOT, Process
from shared import subjects
from shared.probes import probe
from shared.topology import JOB_EV, JOB_LOG, JOBS, OWNED, bucket_stream
from tests.keys import HOST, Keys, Node, connect
from tests.ports import free_ports
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from services.stack.process import ProcessGroup

MODULES = {
    "gateway": "gateway",
    "segmentation": "segmentation",
    "imageutils": "imageutils",
    "jobmanager": "jobmanager",
    "worker": "a100worker",
}
_START_S, _STOP_S = 60.0, 40.0
_WEBHOOKS = "webhooks"
_SHA256 = 64
_NAMES = re.compile(r"\b(?:[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f-]{27})\b")


def _entry_of_input(sha256: str) -> str:
    return subjects.object_entry("inputs", base64.urlsafe_b64encode(sha256.encode()).decode())


def _hold(port: int) -> socket.socket:
    """Keep the port of a gateway that does not run: Caddy would send requests to any server that took it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else connections that ended just now are in the way
    held.bind((HOST, port))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # else another socket with this option can take it
    return held


_OF_IMAGE = ((OWNED, subjects.image_owners), (bucket_stream("inputs"), _entry_of_input))
_OF_JOB = ((JOB_LOG, subjects.submissions_of), (JOB_EV, subjects.events_of), (JOBS, subjects.job_record_anywhere))


def export(revision: str, folder: Path) -> Path:
    """Write the tree of a release into the folder and return it."""
    packed = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def make_credentials(tree: Path, keys: Path) -> None:
    """Make or update keys, users and configuration as this release does."""
    subprocess.run([sys.executable, "-m", "deploy.credentials", str(keys)], cwd=tree, capture_output=True, check=True)


@dataclass
class Fleet:
    """Running processes by release and role, and where each gateway listens."""

    folder: Path
    group: ProcessGroup
    trees: dict[str, Path]
    say: Callable[[str], None]
    ports: dict[str, int] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose the ports, before anything listens."""
        names = [f"{release}-{role}" for release in self.trees for role in MODULES]
        gateways = dict(zip(self.trees, free_ports(len(self.trees)), strict=True))
        self.ports = {release: gateways[release] for release in self.trees}
        self._probes = dict(zip(names, free_ports(len(names)), strict=True))
        self._programs: dict[str, Process] = {}
        self._held = {release: _hold(port) for release, port in gateways.items()}

    @property
    def keys(self) -> Keys:
        """Return the folder of the keys, which both releases share."""
        return Keys(self.folder / "keys")

    async def open_broker(self, release: str) -> Node:
        """Start the broker with the keys of this release."""
        make_credentials(self.trees[release], self.keys.folder)
        monitor, port = free_ports(2)
        environment = {"NATS_LISTEN": f"{HOST}:{port}", "NATS_STORE": json.dumps(str(self.folder / "store"))}
        argv = ["-c", "nats-server.conf", "-m", str(monitor)]
        self.broker = Node("nats", argv, self.keys, environment, self.group, monitor)
        await self.broker.start()
        return self.broker

    async def update_users(self, release: str) -> None:
        """Write the users of a release and have the broker read them, as an operator does: twice (docs/deploy.md)."""
        make_credentials(self.trees[release], self.keys.folder)
        for number in (1, 2):
            self.broker.reload()
            await wait_until(lambda number=number: self._reloads() == number, "the broker has read its users")  # type: ignore[misc]
        async with connect(self.keys, self.broker, _WEBHOOKS) as bus:  # an account that is new since 0.1.0
            await bus.first(JOBS, subjects.ALL_RECORDS)

    def _reloads(self) -> int:
        return sum("Reloaded server configuration" in line for line in self.broker.said)

    async def start(self, release: str, role: str) -> None:
        """Start one process and return once it has started."""
        name = f"{release}-{role}"
        lines = self.lines.setdefault(name, [])
        program = Process(
            name,
            [sys.executable, "-m", f"services.{MODULES[role]}"],
            self.group,
            env=self._variables(release, role),
            cwd=self.trees[release],
            on_line=lines.append,
        )
        self._programs[name] = program
        self.say(f"start {name}")
        if role == "gateway":
            self._held.pop(release).close()
        await program.start()
        try:
            await wait_until(lambda: self._has_started(name), f"{name} has started", _START_S)
        except AssertionError as late:
            late.add_note("\n".join(lines[-30:]))
            raise

    async def stop(self, release: str, role: str) -> None:
        """Stop one process in good order."""
        name = f"{release}-{role}"
        self.say(f"stop {name}")
        program = self._programs.pop(name)
        program.terminate()
        async with asyncio.timeout(_STOP_S):
            code = await program.wait()
        assert code == 0, f"{name} ended with {code}: {self.lines[name][-5:]}"
        if role == "gateway":
            self._held[release] = _hold(self.ports[release])

    def died(self) -> list[str]:
        """Return the processes that have ended by themselves."""
        return [name for name, program in self._programs.items() if program.pid is None]

    async def _has_started(self, name: str) -> bool:
        assert self._programs[name].pid is not None, f"{name} ended."
        return await self._probe(name, "/startupz") == ""

    async def not_ready(self) -> dict[str, str]:
        """Return the processes that are not ready, with their reasons."""
        reasons = {name: await self._probe(name, "/readyz") for name in self._programs}
        return {name: reason for name, reason in reasons.items() if reason}

    async def look(self, text: str) -> str:
        """Return how many messages each stream has that name an image or a job of the text, by two ways of reading."""
        names = set(_NAMES.findall(text))
        async with connect(self.keys, self.broker, OPERATOR) as bus:
            found = [
                f"{stream} {await bus.count(stream, of(name))}={len(await bus.history(stream, of(name)))}"
                for name in sorted(names)
                for stream, of in (_OF_IMAGE if len(name) == _SHA256 else _OF_JOB)
            ]
        return ", ".join(found)

    async def _probe(self, name: str, path: str) -> str:
        return await asyncio.to_thread(probe, self._probes[name], path)

    def _variables(self, release: str, role: str) -> dict[str, str]:
        access = self.folder / "access"
        return {
            **self.keys.variables(self.broker.url, MODULES[role]),
            "GATEWAY_HOST": HOST,
            "GATEWAY_PORT": str(self.ports[release]),
            "GATEWAY_ACCESS": "keys",
            "GATEWAY_KEYS_FILE": str(access / "keys.json"),
            "GATEWAY_SIGNING_KEY_FILE": str(access / "signing.key"),
            "GATEWAY_TRUSTED_PROXIES": HOST,
            "GATEWAY_KEY_RATE_PER_S": "1000",
            "GATEWAY_KEY_BURST": "10000",
            "GATEWAY_DRAIN_S": "5",
            "JOBMANAGER_WEBHOOKS_NKEY_FILE": str(self.keys.folder / _WEBHOOKS / "nats.nk"),
            "A100WORKER_BACKEND": "scripted",
            "A100WORKER_NAME": f"{release}-worker",
            "SEGMENTATION_BACKENDS": "grabcut",
            "STREAMS_PICTURE_BYTES": str(1024**3),
            "PROBE_HOST": HOST,
            "PROBE_PORT": str(self._probes[f"{release}-{role}"]),
            "LOG_LEVEL": "WARNING",
            "PYTHONUNBUFFERED": "1",
        }
