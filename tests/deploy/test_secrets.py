"""`make secrets` writes the files that compose.yaml mounts: private on the host, readable in the containers."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from deploy import access, credentials

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    """Unless they are made for containers."""
    credentials.make(tmp_path)

    assert {mode(tmp_path / file) for file in ("ca.key", "gateway/nats.nk", "nats/server.key")} == {0o600}


def test_a_container_can_read_what_the_host_closes(tmp_path: Path) -> None:
    """Docker mounts the files regardless of the folder's mode; no other user of the host can enter the folder."""
    folder = tmp_path / "secrets"
    credentials.make(folder, for_containers=True)
    access.make(folder / "access")
    closed = {folder / "ca.key", folder / "operator/nats.nk", folder / "operator/system.nk"}

    assert mode(folder) == 0o700
    assert {mode(file) for file in closed} == {0o600}
    assert {mode(file) for file in folder.rglob("*") if file.is_file() and file not in closed} == {0o644}


def test_what_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first key is shown once; a second run changes nothing."""
    access.make(tmp_path)
    shown = capsys.readouterr().out.split()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    access.make(tmp_path)

    assert len(shown) == 1
    assert shown[0].startswith("am_")
    assert capsys.readouterr().out == ""
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
