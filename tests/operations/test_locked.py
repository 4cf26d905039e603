"""The recipes at a broker that asks for keys, by an operator who has set what the page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.permissions import OPERATOR
from shared import subjects, topology
from shared.bus import open_bus
from shared.image_store import NatsImageStore
from shared.messages import JobSubmit, Task
from shared.settings import StreamSettings
from tests.keys import Keys, locked
from tests.operations.conftest import CAT
from tests.operations.recipes import Operator, recipes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)


async def test_an_operator_with_a_key_works_as_on_a_laptop(nats_command: Path, tmp_path: Path) -> None:
    """Looks, stores, submits, cancels, checks; and asks the broker about itself with the key of the system account."""
    keys = Keys.made(tmp_path / "keys")
    (tmp_path / "terminal").mkdir()
    async with (
        locked(keys, tmp_path / "store") as node,
        open_bus(keys.settings(node.url, "jobmanager"), "jobmanager") as manager,
        open_bus(keys.settings(node.url, OPERATOR), OPERATOR) as bus,
    ):
        await topology.ensure(manager, StreamSettings(picture_bytes=1024**3))
        photo = await NatsImageStore(bus).put("inputs", CAT.read_bytes())
        order = JobSubmit(task=Task.WHITE_BALANCE, image=photo.sha256)
        await bus.publish(subjects.submit("batch", "ann", "j1"), order)
        operator = Operator(nats_command, node.url, tmp_path / "terminal", keys.folder / OPERATOR)
        streams = await operator.run("storage")
        logged = await operator.run("logged-job", JOB="j1")
        await operator.run("submit-job", OWNER="ann", JOB="j2", IMAGE=photo.sha256)
        await operator.run("cancel-job", JOB="j2")
        await operator.run("check-broker")
        await operator.run("pause", HOW_LONG="1h")
        await operator.run("resume")
        await operator.run("backup", FOLDER=tmp_path / "backup")
        servers = await operator.shell("nats --context artmancer-system server list")
        code, _, without = await Operator(nats_command, node.url, tmp_path / "terminal").result(recipes()["storage"])

    assert topology.JOB_LOG in streams
    assert photo.sha256 in logged
    assert "artmancer" in servers
    assert code != 0, without
