"""`make help`: the first command of a new developer."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_help_tells_of_every_target_in_one_column() -> None:
    """None is forgotten, none is made up, and all explanations begin below one another."""
    (declared,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout
    entries = [re.match(r"make (\S+) +", line) for line in said.splitlines()]

    assert {entry[1] for entry in entries if entry} == set(declared.split()) - {"help"}
    assert len({entry.end() for entry in entries if entry}) == 1
