"""The whole system as a person starts it, for tests that use it from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.ports import free_ports
from tests.waiting import frozen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# The services that compute have a low priority: beside other tests they take many times longer. So a paused worker
# keeps its job, and a request does not end before its test.
_PATIENCE = {"STREAMS_LEASE_S": "600"} | {
    f"GATEWAY_{request}_TIMEOUT_S": "600" for request in ("MASK", "PREVIEW", "IMAGE", "RENDITION")
}


@dataclass(frozen=True)
class RunningStack:
    """Where it answers, and its processes."""

    launcher: psutil.Process
    http_url: str
    https_url: str
    certificate: Path  # of the authority that the HTTPS side can be checked with

    def kill(self, service: str) -> None:
        """End a service as a crash would; the launcher starts it again."""
        self._process(service).kill()

    @asynccontextmanager
    async def paused(self, service: str) -> AsyncIterator[None]:
        """Stop a service during the block."""
        async with frozen(self._process(service).pid):
            yield

    @asynccontextmanager
    async def without(self, service: str) -> AsyncIterator[None]:
        """Kill a service; the launcher stands still during the block and starts the service again after it."""
        async with frozen(self.launcher.pid):
            self.kill(service)
            yield

    def _process(self, service: str) -> psutil.Process:
        return next(child for child in self.launcher.children() if child.cmdline()[-1:] == [f"services.{service}"])


@contextmanager
def running_stack(folder: Path, **variables: str) -> Iterator[RunningStack]:
    """Run `python -m services --https` on free ports with these environment variables, until it is ready."""
    port, https_port = map(str, free_ports(2))
    command = [sys.executable, "-m", "services", "--port", port, "--https", "--https-port", https_port]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*command, "--data", folder / "data"],
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | _PATIENCE | variables,
        ) as launcher,
    ):
        assert launcher.stdout is not None
        try:
            said = [launcher.stdout.readline().decode().rstrip().rpartition(" ") for _ in range(4)]
            assert said[-1][2], f"The stack ended before it was ready: {(folder / 'log').read_text()[-2000:]}"
            (_, _, http_url), (_, _, https_url), (_, _, certificate) = said[1:]
            yield RunningStack(psutil.Process(launcher.pid), http_url, https_url, Path(certificate))
        finally:
            launcher.terminate()
