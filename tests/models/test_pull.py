"""`python -m services.models pull` with the hub's own library, against a hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared.volumes import Volume
from tests.models.hub import COMMIT, Hub, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FASTSAM, QWEN = "Uminosachi/FastSAM", "Qwen/Qwen-Image-Edit-2511"
WEIGHTS = np.random.default_rng(0).bytes(3_000_000)
CHECKPOINT = {
    "model_index.json": b"{}",
    "transformer/config.json": b"{ }",
    "transformer/diffusion_pytorch_model.safetensors": b"weights",
    "README.md": b"not wanted",
    "run_me.py": b"not wanted at all",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with two repositories."""
    with running_hub({FASTSAM: {"FastSAM-s.pt": WEIGHTS}, QWEN: dict(CHECKPOINT)}) as hub:
        yield hub


class Operator:
    """Runs the command, with an own MODEL_DIR."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.model_dir = folder / "volumes"
        self._environment = {
            **os.environ, "MODEL_DIR": str(self.model_dir), "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"),
        }  # fmt: skip

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m services.models ...`."""
        return subprocess.run(
            [sys.executable, "-m", "services.models", *arguments],
            cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture
def models(hub: Hub, tmp_path: Path) -> Operator:
    """The command."""
    return Operator(hub, tmp_path)


def test_a_model_comes_from_a_mirror_of_the_hub(models: Operator) -> None:
    """HF_ENDPOINT says where that is; commit, size and digest are locked."""
    pulled = models("pull", "fastsam")

    assert (pulled.returncode, pulled.stdout) == (0, "fastsam: fetched, 3.0 MB, AGPL-3.0\n"), pulled.stderr
    volume = Volume(models.model_dir, "fastsam")
    assert volume.verify("FastSAM-s.pt").read_bytes() == WEIGHTS
    assert volume.manifest.sources == (f"{FASTSAM}@{COMMIT}",)
    assert {path.name for path in (models.model_dir / "fastsam").iterdir()} == {
        "FastSAM-s.pt", "NOTICE", "manifest.json",
    }  # fmt: skip


def test_a_lost_connection_is_taken_up_where_it_broke(hub: Hub, models: Operator) -> None:
    """The library writes pieces of 10 MB; what it has written is not asked for again."""
    hub.repositories[FASTSAM]["FastSAM-s.pt"] = WEIGHTS * 8
    hub.break_after = 12_000_000

    assert models("pull", "fastsam").returncode == 0
    assert Volume(models.model_dir, "fastsam").verify("FastSAM-s.pt").read_bytes() == WEIGHTS * 8
    assert any("bytes=10485760-" in asked for asked in hub.asked)


def test_a_pull_that_failed_goes_on_with_what_is_missing(hub: Hub, models: Operator) -> None:
    """In between nothing can be loaded."""
    hub.lost.add("transformer/diffusion_pytorch_model.safetensors")
    assert models("pull", "qwen").returncode == 1
    assert not (models.model_dir / "qwen" / "manifest.json").exists()

    hub.lost.clear()
    hub.asked.clear()
    assert models("pull", "qwen").returncode == 0
    assert not any("GET" in asked and "resolve" in asked and ".json" in asked for asked in hub.asked)


def test_what_is_here_is_not_asked_for(hub: Hub, models: Operator) -> None:
    """Nor is the hub."""
    models("pull", "fastsam")
    hub.asked.clear()

    assert models("pull", "fastsam").stdout == "fastsam: here already, 3.0 MB, AGPL-3.0\n"
    assert hub.asked == []


def test_a_hub_that_changed_its_mind_is_not_believed(hub: Hub, models: Operator) -> None:
    """The first pull has locked the bytes."""
    models("pull", "fastsam")
    (models.model_dir / "fastsam" / "FastSAM-s.pt").unlink()
    hub.repositories[FASTSAM]["FastSAM-s.pt"] = WEIGHTS[:-1] + b"!"

    refused = models("pull", "fastsam")

    assert refused.returncode == 1
    assert "fastsam arrived damaged" in refused.stderr
    assert not (models.model_dir / "fastsam" / "FastSAM-s.pt").exists()


def test_a_large_model_is_mended_file_by_file(hub: Hub, models: Operator) -> None:
    """Weights and configuration, but no code; only what is missing is fetched again."""
    assert models("pull", "qwen").returncode == 0
    files = Volume(models.model_dir, "qwen").manifest.files
    assert set(files) == {name for name in CHECKPOINT if name.endswith((".json", ".safetensors"))}

    (models.model_dir / "qwen" / "transformer" / "config.json").unlink()
    hub.asked.clear()
    assert models("pull", "qwen").stdout.startswith("qwen: fetched")
    assert [asked for asked in hub.asked if asked.startswith("GET") and "/resolve/" in asked] == [
        f"GET /{QWEN}/resolve/{COMMIT}/transformer/config.json"
    ]
    assert models("verify", "qwen").returncode == 0


def test_a_hub_that_does_not_answer_is_named_in_one_line(hub: Hub, models: Operator) -> None:
    """Without a stack."""
    del hub.repositories[FASTSAM]

    failed = models("pull", "fastsam")

    assert failed.returncode == 1
    assert failed.stderr.strip().splitlines()[-1].startswith(f"{FASTSAM} could not be fetched from the hub: ")
    assert "Traceback" not in failed.stderr
