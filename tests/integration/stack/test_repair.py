"""`python -m services --repair`: a laptop's broker stops with the stack, so no other command can correct its store."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from nats.js.api import RetentionPolicy

from services.__main__ import parse_options
from services.stack.nats_server import NatsServer
from services.stack.stack import Options
from shared import declaring
from shared.bus import open_bus
from shared.settings import NatsSettings, StreamSettings
from shared.topology import JOB_LOG, build_topology


async def test_a_stream_that_cannot_be_changed_is_replaced(tmp_path: Path) -> None:
    """The job manager refuses it with this command; afterwards it can start."""
    settings = StreamSettings(picture_bytes=1024**3)
    log = next(stream for stream in build_topology(settings).streams if stream.name == JOB_LOG)

    wrong = log.evolve(retention=RetentionPolicy.WORK_QUEUE)
    async with NatsServer(tmp_path / "nats") as server, open_bus(NatsSettings(url=server.url), "test") as bus:
        await bus.client.jetstream().add_stream(wrong)
    repair = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services", "--repair", "--data", str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await repair.communicate()
    async with NatsServer(tmp_path / "nats") as server, open_bus(NatsSettings(url=server.url), "test") as bus:
        corrected = (await bus.client.jetstream().stream_info(JOB_LOG)).config

    assert (repair.returncode, said) == (0, b"The streams are as declared.\n")
    assert declaring.differences(log, corrected) == {}


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (Options(), "python -m services --repair"),
        (Options(data=Path("my data")), "python -m services --repair --data 'my data'"),
        (Options(nats_url="nats://elsewhere:4222"), ""),
    ],
)
def test_the_command_is_for_the_stack_that_failed(options: Options, command: str) -> None:
    """It names the same data folder. Another broker has its own tools."""
    assert options.repair_command == command


def test_another_broker_is_not_repaired() -> None:
    """The option would promise more than it can do."""
    with pytest.raises(SystemExit):
        parse_options(["--repair", "--no-nats", "--nats-url", "nats://elsewhere:4222"])
