"""Git ignores keys and secrets wherever the documents put them."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from deploy import access, credentials
from tests.deploy.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = re.compile(r"\b(?:OUT|SECRETS)[ ?]*=\s*([\w./-]+)")
_FILE = re.compile(r"(?:--file|_KEY_FILE=|_KEYS_FILE=|NKEY_FILE=|signing-key|cp deploy/env.example) ?([\w./-]+)")


def texts() -> str:
    """Return all documents for people, and the Makefile."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "Makefile", ROOT / "compose.yaml"]
    return "\n".join(file.read_text() for file in files)


def find_unignored(paths: list[str]) -> set[str]:
    """Return those paths in the repository that git would add."""
    git = ["git", "-C", str(ROOT), "check-ignore", "--no-index", "--stdin"]
    told = subprocess.run(git, input="\n".join(paths), capture_output=True, text=True, check=False)
    return set(paths) - set(told.stdout.splitlines())


def test_the_folders_of_the_documents_are_ignored() -> None:
    """`git add` of everything publishes no secret, after the documents were followed in a checkout."""
    found = {name.strip("/") for name in _FOLDER.findall(texts()) if not name.startswith("/")}
    folders = found - {"folder"}  # the placeholder of `make help`

    assert folders >= {"keys", "secrets", "deploy/secrets"}
    assert find_unignored([f"{folder}/any/file" for folder in folders]) == set()


def test_the_files_of_the_documents_are_ignored() -> None:
    """The same for files."""
    files = {found for found in _FILE.findall(texts()) if found.startswith(("deploy/", "keys/", "secrets/"))}

    assert "deploy/secrets/access/keys.json" in files
    assert find_unignored([*files, ".env", "root.crt"]) == set()


def test_secrets_are_ignored_in_any_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An operator may choose another name for it."""
    credentials.make(tmp_path)
    access.make(tmp_path / "access")
    capsys.readouterr()
    written = [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()]
    secret = [name for name in written if name.endswith((".nk", ".key", "keys.json"))]

    assert len(secret) >= 10
    assert find_unignored([f"elsewhere/{name}" for name in secret]) == set()


@pytest.mark.parametrize(
    "name", ["services/gateway/keys.py", "deploy/env.example", "tests/keys.py", "deploy/credentials.py"]
)
def test_no_file_of_the_program_is_ignored(name: str) -> None:
    """Their names are similar."""
    assert find_unignored([name]) == {name}
