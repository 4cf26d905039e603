"""The broker's configurations in deploy/: the server accepts them and runs as they declare."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from shared import declaring
from shared.bus import open_bus
from shared.settings import StreamSettings
from tests.keys import NATS_SERVER, Keys, run_locked

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATIONS = {
    "nats-server.conf": {"NATS_LISTEN": "0.0.0.0:4222", "NATS_STORE": "/data"},
    "nats-cluster.conf": {
        "NATS_NAME": "n1",
        "NATS_LISTEN": "0.0.0.0:4222",
        "NATS_ROUTE_LISTEN": "0.0.0.0:6222",
        "NATS_ROUTES": "[nats-route://n1:6222, nats-route://n2:6222, nats-route://n3:6222]",
        "NATS_STORE": "/data",
    },
}


def checked(keys: Keys, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Have the server itself read a configuration."""
    return subprocess.run(
        [NATS_SERVER, "-t", "-c", name],
        cwd=keys.folder / "nats",
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("name", "variables"), CONFIGURATIONS.items())
def test_a_configuration_is_valid(keys: Keys, name: str, variables: dict[str, str]) -> None:
    """`nats-server -t -c` finds nothing to complain about, with the variables that its head lists."""
    assert checked(keys, name, **variables).returncode == 0


@pytest.mark.parametrize(
    ("name", "missing"), [(name, missing) for name, told in CONFIGURATIONS.items() for missing in told]
)
def test_a_server_says_what_it_was_not_told(keys: Keys, name: str, missing: str) -> None:
    """It does not start with a default value."""
    told = {variable: value for variable, value in CONFIGURATIONS[name].items() if variable != missing}

    result = checked(keys, name, **told)

    assert result.returncode != 0
    assert missing in result.stderr


async def test_the_single_server_keeps_what_it_accepts(keys: Keys, tmp_path: Path) -> None:
    """On the disk before it is accepted, and with room for all that is declared by default."""
    settings = StreamSettings()
    async with (
        run_locked(keys, tmp_path / "store") as node,
        open_bus(keys.settings(node.url, "operator"), "operator") as bus,
        httpx.AsyncClient(base_url=node.monitor_url) as monitoring,
    ):
        await declaring.declare_streams(bus, settings)
        weak = await declaring.find_weaknesses(bus, settings)
        told = (await monitoring.get("/varz")).json()

    assert weak == []
    assert told["jetstream"]["config"]["sync_always"] is True
    assert told["max_payload"] == 2 * 1024**2
