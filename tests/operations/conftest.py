"""Provide the nats command, a broker, and services for the operator's recipes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.operations.recipes import ROOT, Operator

CAT = ROOT / "services/gateway/static/samples/cat.jpg"


@pytest.fixture(scope="session")
def nats_command() -> Path:
    """Where the official nats command is; skipped without one, but not in CI where Go could build it."""
    found = shutil.which("nats", path=f"{ROOT / '.tools/bin'}:{os.environ['PATH']}")
    if shutil.which("jq") is None:
        found = None
        why = "jq is missing: `.ci/install-system-packages` installs it."
    elif shutil.which("go") is None:
        why = "There is no nats command, and no Go to build it with."
    else:
        why = "The nats command is missing: `make tools` builds it."
    if found is None and os.environ.get("CI") and shutil.which("go"):
        pytest.fail(why)
    if found is None:
        pytest.skip(why)
    return Path(found)


@pytest.fixture
def operator(nats_command: Path, nats_url: str, tmp_path: Path) -> Operator:
    """Provide an operator at a terminal with NATS_URL set."""
    folder = tmp_path / "terminal"
    folder.mkdir()
    return Operator(nats_command, nats_url, folder)
