"""Models made for tests, folders that hold them, and the command."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.models.manifest import Hub, Model, WeightFile, Wheel

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[4]
WEIGHTS = b"weights" * 1000
OTHER = WEIGHTS[:-1] + b"!"
PINNED = Model(
    name="tiny",
    purpose="tests",
    licence="MIT",
    source=Wheel("tiny==1", "0" * 64, "MIT"),
    files=(WeightFile("tiny.onnx", "pkg/tiny.onnx", hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS)),),
    notice="by nobody\n",
)
OPEN = Model(
    name="open",
    purpose="tests",
    licence="MIT",
    source=Hub("nobody/open", patterns=("*.json",)),
    files=(WeightFile("a/net.bin", "net_fp16.bin"),),
    notice="by nobody\n",
    own=("adapters/*.bin",),
)


def folder_with(tmp_path: Path, files: Mapping[str, bytes], name: str = "origin") -> Path:
    """Write a folder that an operator brings; return it."""
    for file, data in files.items():
        path = tmp_path / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / name


def command(volumes: Path, *arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run `python -m services.models` with this standard input."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.models", *arguments],
        cwd=ROOT, env={**os.environ, "MODEL_DIR": str(volumes)}, capture_output=True, check=False, input=content,
    )  # fmt: skip
    return subprocess.CompletedProcess(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode())
