"""The broker's configurations in deploy/: the server accepts them, and what they promise is what runs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from services.devstack import free_port
from shared import topology
from shared.bus import open_bus
from shared.settings import NatsSettings, StreamSettings
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
NATS_SERVER = Path(sys.executable).parent / "nats-server"
HOST = "127.0.0.1"
CLUSTER = {
    "NATS_NAME": "n1",
    "NATS_LISTEN": "0.0.0.0:4222",
    "NATS_ROUTE_LISTEN": "0.0.0.0:6222",
    "NATS_ROUTES": "[nats-route://n1:6222, nats-route://n2:6222, nats-route://n3:6222]",
    "NATS_STORE": "/data",
}


def checked(name: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Have the server itself read a configuration."""
    return subprocess.run(
        [NATS_SERVER, "-t", "-c", f"deploy/{name}"],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_single_server_is_configured_correctly() -> None:
    """`nats-server -t -c` finds nothing to complain about."""
    assert checked("nats-server.conf", NATS_STORE="/data").returncode == 0


def test_each_server_of_a_cluster_is_configured_correctly() -> None:
    """With the variables that its head lists."""
    assert checked("nats-cluster.conf", **CLUSTER).returncode == 0


@pytest.mark.parametrize("missing", CLUSTER)
def test_a_server_of_a_cluster_says_what_it_was_not_told(missing: str) -> None:
    """It does not start with a default of somebody else's choice."""
    told = {name: value for name, value in CLUSTER.items() if name != missing}

    result = checked("nats-cluster.conf", **told)

    assert result.returncode != 0
    assert missing in result.stderr


@asynccontextmanager
async def running(store: Path) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """The single server as configured, but for its ports and its store; yields its address and its monitoring."""
    port, monitor = free_port(HOST, 0), free_port(HOST, 0)
    own = ["-a", HOST, "-p", str(port), "-m", str(monitor)]
    config = ROOT / "deploy/nats-server.conf"
    quiet = asyncio.subprocess.DEVNULL
    server = await asyncio.create_subprocess_exec(
        NATS_SERVER, "-c", config, *own, env={**os.environ, "NATS_STORE": str(store)}, stdout=quiet, stderr=quiet
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{monitor}") as client:

            async def healthy() -> bool:
                try:
                    return (await client.get("/healthz")).is_success
                except httpx.TransportError:
                    return False

            await wait_until(healthy, "the server is healthy")
            yield f"nats://{HOST}:{port}", client
    finally:
        server.terminate()
        await server.wait()


async def test_the_single_server_keeps_what_it_accepts(tmp_path: Path) -> None:
    """On the disk before it is accepted, and with room for all that is declared by default."""
    settings = StreamSettings()
    async with running(tmp_path) as (url, monitoring), open_bus(NatsSettings(url=url), "test") as bus:
        await topology.ensure(bus, settings)
        weak = await topology.weaknesses(bus, settings)
        told = (await monitoring.get("/varz")).json()

    assert weak == []
    assert told["jetstream"]["config"]["sync_always"] is True
    assert told["max_payload"] == 2 * 1024**2
