"""The local files that tools may read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from services.mcp import files
from services.mcp.files import Files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with files and links, beside a secret."""
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"a")
    (folder / "inner" / "b.png").write_bytes(b"b")
    (folder / "to-b.png").symlink_to(folder / "inner" / "b.png")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "photos-2").mkdir()
    (tmp_path / "photos-2" / "c.png").write_bytes(b"c")
    (folder / "out.png").symlink_to(tmp_path / "secret")
    (folder / "out").symlink_to(tmp_path)
    (folder / "circle").symlink_to(folder / "circle")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize(("path", "content"), [("a.png", b"a"), ("inner/../a.png", b"a"), ("to-b.png", b"b")])
def test_files_of_the_folder_are_read(root: Path, path: str, content: bytes) -> None:
    """Also through links inside it, and by their whole path."""
    assert Files(root).read(path) == content
    assert Files(root).read(str(root / path)) == content


@pytest.mark.parametrize("path", ["../secret", "out.png", "out/secret", "../photos-2/c.png", "/etc/passwd"])
def test_files_outside_are_refused(root: Path, path: str) -> None:
    """By any way out."""
    with pytest.raises(ToolError, match="outside the folder"):
        Files(root).read(path)


@pytest.mark.parametrize("path", ["no.png", "inner", "pipe", "circle", "a\0b", "", "x" * 5000, "/dev/null/x"])
def test_what_is_no_file_is_refused_at_once(root: Path, path: str) -> None:
    """A folder, a pipe without a writer, a circle of links."""
    with pytest.raises(ToolError, match="no file"):
        Files(root).read(path)


def test_a_large_file_is_refused(root: Path) -> None:
    """Before it is read."""
    with (root / "large.png").open("wb") as file:
        file.truncate(files.LARGEST_BYTES + 1)

    with pytest.raises(ToolError, match="larger than"):
        Files(root).read("large.png")


def test_without_a_folder_nothing_is_read(root: Path) -> None:
    """The default, and the only way over HTTP."""
    with pytest.raises(ToolError, match="reads no files"):
        Files(None).read(str(root / "a.png"))
