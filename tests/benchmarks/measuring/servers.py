"""The processes that are measured: the whole system, and the plain servers that it is compared with."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"
_LOOK_EVERY_S = 0.002
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Stack:
    """A running system."""

    url: str
    broker: str
    processes: dict[str, psutil.Process]
    """By name: launcher, guard, nats, and the services; a second worker is `a100worker-2`."""

    def of(self, *names: str) -> list[psutil.Process]:
        """Return some of the processes."""
        return [self.processes[name] for name in names]


@contextmanager
def running_stack(folder: Path, *arguments: str, **environment: str) -> Iterator[Stack]:
    """`python -m services` with these arguments and variables, once it is ready."""
    command = [sys.executable, "-m", "services", "--port", "0", "--data", str(folder / "data"), *arguments]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=os.environ | environment, text=True) as root,
    ):
        try:
            assert root.stdout is not None
            said = dict(line.split() for line in (root.stdout.readline(), root.stdout.readline()) if line)
            assert said.keys() == {"broker", "ready"}, (folder / "log").read_text()[-2000:]
            launcher = psutil.Process(root.pid)
            yield Stack(said["ready"], said["broker"], {"launcher": launcher, **_by_name(launcher.children())})
        finally:
            root.terminate()


@contextmanager
def plain_server(app: str, folder: Path | None = None) -> Iterator[tuple[str, psutil.Process]]:
    """`uvicorn --factory app` in a process of its own, once it answers; yields its address."""
    port = free_port()
    with subprocess.Popen(uvicorn(app, port, "--factory"), cwd=folder) as server:
        try:
            await_answer(port, "/api/health")
            yield f"http://{HOST}:{port}", psutil.Process(server.pid)
        finally:
            server.terminate()


def uvicorn(app: str, port: int, *options: str) -> list[str]:
    """Return the command line."""
    return [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--log-level", "error", *options]


def await_answer(port: int, path: str) -> None:
    """Return when a GET is answered with 200. Raises AssertionError."""
    until = time.monotonic() + _TIMEOUT_S
    while not _answers(port, path):
        assert time.monotonic() < until, f"Nobody answers at {path}."
        time.sleep(_LOOK_EVERY_S)


def _answers(port: int, path: str) -> bool:
    try:
        with socket.create_connection((HOST, port), _TIMEOUT_S) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
            return b" 200 " in connection.recv(64)
    except ConnectionError:
        return False


def _by_name(processes: list[psutil.Process]) -> dict[str, psutil.Process]:
    found: dict[str, psutil.Process] = {}
    for process in processes:
        name = _name(process)
        twins = sum(known.partition("-")[0] == name for known in found)
        found[f"{name}-{twins + 1}" if twins else name] = process
    return found


def _name(process: psutil.Process) -> str:
    words = process.cmdline()
    if words[-1].startswith("services."):
        return words[-1].removeprefix("services.")
    return "nats" if "nats-server" in words[0] else "guard"
