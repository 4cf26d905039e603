"""Follow the guides in docs/guides literally, in a copy of the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
_BLOCK = re.compile(r"^```(?P<kind>python|diff)(?: file=(?P<file>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the files that git knows, without pictures of the documents and lock files."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file() and not name.startswith(("locks/", "docs/")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, tmp_path / name)
    return tmp_path


def apply(guide: Path, folder: Path) -> list[str]:
    """Write the guide's files and apply its diffs; return the names of its tests."""
    blocks = list(_BLOCK.finditer(guide.read_text(encoding="utf-8")))
    for block in blocks:
        if block["kind"] == "python" and block["file"]:
            (folder / block["file"]).parent.mkdir(parents=True, exist_ok=True)
            (folder / block["file"]).write_text(block["text"], encoding="utf-8")
        elif block["kind"] == "diff":
            for name, hunks in re.findall(
                r"^\+\+\+ (\S+)\n((?:[@+-](?!\+\+ ).*\n|[+-]?\n)+)", block["text"], re.MULTILINE
            ):
                change(folder / name, hunks)
    return [block["file"] for block in blocks if block["file"] and Path(block["file"]).name.startswith("test_")]


def change(path: Path, hunks: str) -> None:
    """Replace the lines that begin with a minus, which must stand in the file once, by those that begin with a plus."""
    text = path.read_text(encoding="utf-8")
    for hunk in filter(None, hunks.split("@@\n")):
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
        assert text.count(old) == 1, f"The guide changes a line that {path.name} does not have once: {old}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


@pytest.mark.timeout(600)  # it compiles a copy of the project: 10 s, and 180 s beside an installation on a slow disk
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_the_guide_works(guide: Path, copy: Path) -> None:
    """Its changes fit today's code, and its tests pass."""
    tests = apply(guide, copy)
    assert tests, "A guide ends with a test."

    # Its timeout ends before ours, so that a test that hangs is shown.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300", *tests]
    ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
