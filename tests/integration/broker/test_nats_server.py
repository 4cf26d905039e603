"""The nats-server handle: it serves, it keeps its port, and it never mistakes another server for its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psutil
import pytest

from services.stack.health import broker_answers
from services.stack.nats_server import NatsServer
from shared import declaring
from shared.bus import open_bus
from shared.errors import ConfigError
from shared.settings import NatsSettings, StreamSettings
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shared.bus import Bus


async def test_it_answers_as_soon_as_it_is_entered(nats_server: NatsServer) -> None:
    """No caller has to wait or to retry."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(nats_server.url.rpartition(":")[2]))
    hello = await reader.readline()
    writer.close()
    await writer.wait_closed()

    assert hello.startswith(b"INFO ")


async def test_it_listens_on_loopback_only(nats_server: NatsServer) -> None:
    """Other machines cannot reach it."""
    sockets = psutil.Process(nats_server.pid).net_connections()

    assert {socket.laddr.ip for socket in sockets} == {"127.0.0.1"}


async def test_it_keeps_its_port_and_its_messages_over_a_crash(nats_server: NatsServer, bus: Bus) -> None:
    """Clients find the server and the stored messages at the same address."""
    url = nats_server.url
    stored = await bus.publish("job.submit.a100.batch.u1.j1", b"{}")

    await nats_server.kill()
    await wait_until(lambda: not bus.up.is_set(), "the client has noticed")
    await nats_server.start()
    await bus.up.wait()
    found = await bus.get("JOB_LOG", stored)

    assert nats_server.url == url
    assert found is not None


async def test_a_port_in_use_is_an_error(nats_server: NatsServer, tmp_path: Path) -> None:
    """The handle does not mistake the first server for its own."""
    port = int(nats_server.url.rpartition(":")[2])
    second = NatsServer(tmp_path / "second", port)

    with pytest.raises(ConfigError, match=f"^Port {port} is in use by another program: stop it[.]$"):
        await second.__aenter__()

    assert second.pid is None


async def test_it_is_gone_when_the_block_ends(tmp_path: Path) -> None:
    """Neither the process nor the port outlives the block."""
    async with NatsServer(tmp_path / "nats") as server:
        pid = server.pid

    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert not await broker_answers(server.url)


@pytest.mark.parametrize(
    "name",
    ["Bücher", "图片", "😀", "a b", 'say "x"', "back\\slash", "$HOME", "tab\tbed", "two\nlines", "\udcff", "# {x}"],
)
async def test_its_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """The store lies in that folder; the last but one name is not UTF-8."""
    folder = tmp_path / name
    async with NatsServer(folder / "nats") as server, open_bus(NatsSettings(url=server.url), "test") as bus:
        await declaring.declare_streams(bus, StreamSettings(picture_bytes=1024**3))
        stored = await bus.publish("job.ev.j1.end", b"{}")

    assert stored == 1
    assert (folder / "nats/jetstream").is_dir()
