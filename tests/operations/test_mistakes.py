"""Mistakes of an operator: one sentence each, and nothing is half done."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from deploy.permissions import OPERATOR
from shared.topology import ADVISORY, JOB_LOG
from tests.keys import Keys, run_locked
from tests.operations.recipes import PAGE, Operator, recipes

if TYPE_CHECKING:
    from pathlib import Path

    from shared.bus import Bus
    from tests.running import Desk

pytestmark = pytest.mark.timeout(120)


async def list_stored(bus: Bus) -> dict[str, dict[str, object]]:
    """Return the messages of each stream."""
    infos = await bus.client.jetstream().streams_info()
    return {str(info.config.name): vars(info.state) for info in infos}


@pytest.mark.parametrize("missing", [None, ADVISORY])
async def test_a_restore_into_a_running_system_changes_nothing(
    operator: Operator, desk: Desk, bus: Bus, missing: str | None
) -> None:
    """Not even the one stream that is missing comes back."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.done("j1")
    await operator.run("backup", FOLDER=operator.folder / "backup")
    if missing is not None:
        await bus.client.jetstream().delete_stream(missing)
    before = await list_stored(bus)

    code, _, said = await operator.result(recipes()["restore"], FOLDER=operator.folder / "backup")

    assert JOB_LOG in before
    assert await list_stored(bus) == before
    assert (code, said.count("exists already")) == (1, 1)


async def test_a_backup_overwrites_no_other_one(operator: Operator, desk: Desk) -> None:
    """Neither a complete one nor the rest of an interrupted one."""
    folder = operator.folder / "backup"
    await operator.run("backup", FOLDER=folder)
    before = contents(folder)
    await desk.submit("j1")

    again = await operator.result(recipes()["backup"], FOLDER=folder)
    folder.rename(f"{folder}.part")
    after_a_break = await operator.result(recipes()["backup"], FOLDER=folder)

    assert (again[0], again[2]) == (1, f"{folder} exists already.\n")
    assert after_a_break[0] == 1
    assert not folder.exists()
    assert contents(folder.with_name("backup.part")) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a backup."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("bus")
async def test_a_script_of_cron_keeps_the_backups_of_a_week(operator: Operator) -> None:
    """A failed backup deletes none of them, and folders with other names stay."""
    days = {name: operator.folder / name for name in ("2026-01-01", "2026-01-09.part", "photos", "2026-01-08")}
    for path in days.values():
        path.mkdir()
        os.utime(path, (0, 0))
    os.utime(days["2026-01-08"])
    script = "FOLDER=$(date +%F)\n{backup}{prune}".format(backup=recipes()["backup"], prune=recipes()["prune-backups"])
    today = (await operator.shell("date +%F")).strip()
    (operator.folder / today).mkdir()
    failed, *_ = await operator.result(script)
    untouched = sorted(path.name for path in operator.folder.iterdir())
    (operator.folder / today).rmdir()
    await operator.run("backup", FOLDER=today)
    await operator.run("prune-backups")

    assert failed == 1
    assert untouched == sorted([*days, today])
    assert {path.name for path in operator.folder.iterdir()} == {"photos", "2026-01-08", today}


async def test_a_wrong_context_is_corrected_by_the_command_of_the_page(nats_command: Path, tmp_path: Path) -> None:
    """The command names the mistake, forgets the chosen context with it, and the next call fails."""
    keys = Keys.made(tmp_path / "keys")
    (tmp_path / "terminal").mkdir()
    (correction,) = re.findall("`(nats context select [a-z]+)`", PAGE.read_text())
    async with run_locked(keys, tmp_path / "store") as node:
        operator = Operator(nats_command, node.url, tmp_path / "terminal", keys.folder / OPERATOR)
        wrong = await operator.result("nats --context artmancr server list")
        after = await operator.result("nats server check connection")
        await operator.shell(correction)
        await operator.shell("nats server check connection")

    assert (wrong[0], "context not found" in wrong[2]) == (1, True)
    assert after[0] != 0
