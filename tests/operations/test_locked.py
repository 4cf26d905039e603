"""The recipes at a broker that requires keys, with the variables that the page sets."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from deploy.permissions import OPERATOR
from services.imageutils import service as imageutils
from services.imageutils.settings import Settings as ImageUtilsSettings
from services.jobmanager import service as jobmanager
from services.jobmanager.settings import Settings as ManagerSettings
from shared import declaring, subjects, topology
from shared.bus import open_bus
from shared.image_codec import probe_in_thread
from shared.image_store import NatsImageStore
from shared.messages import JobSubmit, Task
from shared.settings import StreamSettings
from tests.keys import Keys, run_locked
from tests.operations.conftest import CAT
from tests.operations.recipes import Operator, recipes
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.keys import Node

pytestmark = pytest.mark.timeout(120)
SERVING = ("imageutils", "jobmanager")


async def test_an_operator_with_a_key_works_as_on_a_laptop(nats_command: Path, tmp_path: Path) -> None:
    """Looks, stores, submits, cancels, checks; and asks the broker about itself with the key of the system account."""
    keys = Keys.made(tmp_path / "keys")
    (tmp_path / "terminal").mkdir()
    async with (
        run_locked(keys, tmp_path / "store") as node,
        open_bus(keys.settings(node.url, "jobmanager"), "jobmanager") as manager,
        open_bus(keys.settings(node.url, OPERATOR), OPERATOR) as bus,
    ):
        await declaring.declare_streams(manager, StreamSettings(picture_bytes=1024**3))
        photo = await NatsImageStore(bus, probe_in_thread).put("inputs", CAT.read_bytes())
        order = JobSubmit(task=Task.WHITE_BALANCE, image=photo.sha256)
        await bus.publish(subjects.submission("batch", "ann", "j1"), order)
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


@asynccontextmanager
async def at_work(keys: Keys, node: Node) -> AsyncIterator[None]:
    """Provide a service beside the streams, and one in an account of its own."""
    stop, streams = asyncio.Event(), StreamSettings(picture_bytes=1024**3)
    manager = ManagerSettings(nats=keys.settings(node.url, "jobmanager"), streams=streams)
    utilities = ImageUtilsSettings(nats=keys.settings(node.url, "imageutils"))
    async with asyncio.TaskGroup() as group:
        group.create_task(jobmanager.run(manager, stop), name="jobmanager")
        group.create_task(imageutils.run(utilities, stop), name="imageutils")
        try:
            yield
        finally:
            stop.set()


async def test_an_operator_with_a_key_sees_the_services_of_all_accounts(nats_command: Path, tmp_path: Path) -> None:
    """By discovery, by name, by their health; each answers once."""
    keys = Keys.made(tmp_path / "keys")
    (tmp_path / "terminal").mkdir()
    async with run_locked(keys, tmp_path / "store") as node, at_work(keys, node):
        operator = Operator(nats_command, node.url, tmp_path / "terminal", keys.folder / OPERATOR)

        async def well() -> bool:
            results = [await operator.result(recipes()["service-health"], SERVICE=name) for name in SERVING]
            return [code for code, *_ in results] == [0, 0]

        await wait_until(well, "both say that they are well", timeout_s=60)
        listed = await operator.run("list-services")
        loads = [await operator.run("service-load", SERVICE=name) for name in SERVING]
        pings = await operator.shell("nats micro ping")
        waiting = await operator.run("queues")
        await operator.run("bug-report", GATEWAY="http://127.0.0.1:9")
    report = (tmp_path / "terminal/report.txt").read_text()

    assert [listed.count(name) for name in SERVING] == [1, 1]
    assert [pings.count(name) for name in SERVING] == [1, 1]
    assert [name in load for name, load in zip(SERVING, loads, strict=True)] == [True, True]
    assert "{}" in waiting
    assert [f'"service":"{name}"' in report for name in SERVING] == [True, True]
    assert "NATS" not in report
    assert not re.search(r"\b[SU][A-Z2-7]{55,57}\b", report)  # neither seeds nor public keys
