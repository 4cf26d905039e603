"""`python -m services.models pull` with the hub's own library, against a hub on this machine."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared.volumes import Volume
from tests.models.hub import COMMIT, Hub, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
FASTSAM, QWEN, QWEN_2509 = "Uminosachi/FastSAM", "Qwen/Qwen-Image-Edit-2511", "Qwen/Qwen-Image-Edit-2509"
LIGHTNING = "lightx2v/Qwen-Image-Edit-2511-Lightning"
WEIGHTS = np.random.default_rng(0).bytes(3_000_000)
CHECKPOINT = {
    "model_index.json": b"{}",
    "transformer/config.json": b'{"zero_cond_t": true}',
    "transformer/diffusion_pytorch_model.safetensors": b"weights",
    "README.md": b"not wanted",
    "run_me.py": b"not wanted at all",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Provide a hub with some repositories."""
    older = CHECKPOINT | {"transformer/config.json": b"{}"}
    steps = {f"Qwen-Image-Edit-2511-Lightning-{number}steps-V1.0-bf16.safetensors": WEIGHTS for number in (4, 8)}
    repositories = {FASTSAM: {"FastSAM-s.pt": WEIGHTS}, QWEN: dict(CHECKPOINT), QWEN_2509: older, LIGHTNING: steps}
    with running_hub(repositories) as hub:
        yield hub


class Operator:
    """Runs the command, with an own MODEL_DIR."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.model_dir = folder / "volumes"
        self._environment = {
            **os.environ, "MODEL_DIR": str(self.model_dir), "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"),
        }  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command and do not wait for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "services.models", *arguments],
            cwd=ROOT, env=self._environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m services.models ...`."""
        return subprocess.run(
            [sys.executable, "-m", "services.models", *arguments],
            cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture
def models(hub: Hub, tmp_path: Path) -> Operator:
    """Return the command."""
    return Operator(hub, tmp_path)


def zip_files(names: Sequence[str]) -> bytes:
    """Return an archive of weights, and of a file that no model names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in (*names, "run_me.py"):
            archive.writestr(name, WEIGHTS)
    return file.getvalue()


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (zip_files(["sam2.1_hiera_tiny.encoder.onnx", "sam2.1_hiera_tiny.decoder.onnx"]), "onnx has another SHA-256"),
        (zip_files(["sam2.1_hiera_tiny.encoder.onnx"]), "is not the archive that was published"),
        (zip_files(["sam2.1_hiera_tiny.encoder.onnx"])[:-30], "is not the archive that was published"),
    ],
    ids=["other bytes", "a file is missing", "cut short"],
)
def test_an_archive_of_the_hub_is_checked_file_by_file(models: Operator, hub: Hub, archive: bytes, reason: str) -> None:
    """Its members are compared with their own digests, and nothing of it stays in the volume."""
    name = "sam2.1_hiera_tiny_20260221.zip"
    hub.repositories["vietanhdev/segment-anything-2.1-onnx-models"] = {name: archive, "README.md": b"not wanted"}

    pulled = models("pull", "sam")

    assert pulled.returncode == 1
    assert f"sam arrived damaged: {name if 'archive' in reason else 'decoder.'}" in pulled.stderr
    assert reason in pulled.stderr
    assert not [path.name for path in (models.model_dir / "sam").rglob("*") if path.suffix in {".onnx", ".zip", ".py"}]
    assert not any("README" in line for line in hub.asked)


def test_a_model_comes_from_a_mirror_of_the_hub(models: Operator) -> None:
    """Its address is HF_ENDPOINT; commit, size and digest are locked."""
    pulled = models("pull", "fastsam")

    assert (pulled.returncode, pulled.stdout) == (0, "fastsam: fetched, 3.0 MB, AGPL-3.0\n"), pulled.stderr
    volume = Volume(models.model_dir, "fastsam")
    assert volume.verify("FastSAM-s.pt").read_bytes() == WEIGHTS
    assert volume.manifest.sources == (f"{FASTSAM}@{COMMIT}",)
    assert {path.name for path in (models.model_dir / "fastsam").iterdir()} == {
        "FastSAM-s.pt", "NOTICE", "manifest.json",
    }  # fmt: skip


def test_a_lost_connection_is_taken_up_where_it_broke(hub: Hub, models: Operator) -> None:
    """The library writes pieces of 10 MB and requests only the rest."""
    hub.repositories[FASTSAM]["FastSAM-s.pt"] = WEIGHTS * 8
    hub.break_after = 12_000_000

    assert models("pull", "fastsam").returncode == 0
    assert Volume(models.model_dir, "fastsam").verify("FastSAM-s.pt").read_bytes() == WEIGHTS * 8
    assert any("bytes=10485760-" in asked for asked in hub.asked)


def test_a_pull_that_failed_continues_with_the_missing_files(hub: Hub, models: Operator) -> None:
    """In between nothing can be loaded."""
    hub.lost.add("transformer/diffusion_pytorch_model.safetensors")
    assert models("pull", "qwen").returncode == 1
    assert not (models.model_dir / "qwen" / "manifest.json").exists()

    hub.lost.clear()
    hub.asked.clear()
    assert models("pull", "qwen").returncode == 0
    assert not any("GET" in asked and "resolve" in asked and ".json" in asked for asked in hub.asked)


def test_a_whole_model_is_not_requested(hub: Hub, models: Operator) -> None:
    """Nor is the hub."""
    models("pull", "fastsam")
    hub.asked.clear()

    assert models("pull", "fastsam").stdout == "fastsam: here already, 3.0 MB, AGPL-3.0\n"
    assert hub.asked == []


def test_other_bytes_under_a_locked_commit_are_refused(hub: Hub, models: Operator) -> None:
    """The first pull has locked the bytes."""
    models("pull", "fastsam")
    (models.model_dir / "fastsam" / "FastSAM-s.pt").unlink()
    hub.repositories[FASTSAM]["FastSAM-s.pt"] = WEIGHTS[:-1] + b"!"

    refused = models("pull", "fastsam")

    assert refused.returncode == 1
    assert "fastsam arrived damaged" in refused.stderr
    assert not (models.model_dir / "fastsam" / "FastSAM-s.pt").exists()


def test_a_large_model_is_repaired_file_by_file(hub: Hub, models: Operator) -> None:
    """Weights and configuration, but no code; only missing files are fetched again."""
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
    (sentence,) = [line for line in failed.stderr.splitlines() if FASTSAM in line]
    assert sentence.startswith(f"{FASTSAM} could not be fetched from the hub: ")
    assert sentence.endswith(". Check the network and HF_ENDPOINT, or use `--from DIR`.")
    assert list((models.model_dir / "fastsam").iterdir()) == []
    assert "Traceback" not in failed.stderr


def test_a_pull_that_is_killed_leaves_nothing_half_done(hub: Hub, models: Operator) -> None:
    """No service can load the half; the next pull continues with it."""
    hub.repositories[FASTSAM]["FastSAM-s.pt"] = WEIGHTS * 8
    hub.slow = "FastSAM-s.pt"
    pulling = models.start("pull", "fastsam")
    assert hub.half_sent.wait(60)

    pulling.kill()
    pulling.communicate()
    hub.go_on.set()

    assert {path.name for path in (models.model_dir / "fastsam").iterdir()} == {".arrivals"}
    assert "missing" in models("list", "fastsam").stdout
    assert models("pull", "fastsam").returncode == 0
    assert Volume(models.model_dir, "fastsam").verify("FastSAM-s.pt").read_bytes() == WEIGHTS * 8
    assert not (models.model_dir / "fastsam" / ".arrivals").exists()


def test_a_second_pull_waits_and_fetches_nothing(hub: Hub, models: Operator) -> None:
    """Two that wrote the same files would damage them."""
    hub.slow = "FastSAM-s.pt"
    first = models.start("pull", "fastsam")
    assert hub.half_sent.wait(60)
    second = models.start("pull", "fastsam")
    assert second.stderr is not None
    assert second.stderr.readline() == "fastsam: waiting for another pull to end\n"

    hub.go_on.set()

    assert first.communicate(timeout=60)[0] == "fastsam: fetched, 3.0 MB, AGPL-3.0\n"
    assert second.communicate(timeout=60)[0] == "fastsam: here already, 3.0 MB, AGPL-3.0\n"
    assert sum("GET" in asked and "/resolve/" in asked for asked in hub.asked) == 1


def test_a_model_that_does_not_fit_the_disk_is_not_begun(hub: Hub, models: Operator) -> None:
    """The hub knows the sizes; nothing is fetched and nothing is left."""
    hub.claimed_sizes["transformer/diffusion_pytorch_model.safetensors"] = 10**18

    refused = models("pull", "qwen")

    assert refused.returncode == 1
    assert refused.stderr.startswith("qwen needs 1,000,000,000.0 GB more, and ")
    assert not any("/resolve/" in asked for asked in hub.asked)
    assert list((models.model_dir / "qwen").iterdir()) == []


def test_the_older_version_and_its_adapters_are_kept_apart(models: Operator) -> None:
    """Lightning is for 2511: it is refused on 2509, and its digest is known for 4 steps."""
    assert models("pull", "qwen-2509").returncode == 0
    on_2509 = models("pull", "lightning")
    assert (on_2509.returncode, "lightning needs Qwen-Image-Edit-2511" in on_2509.stderr) == (1, True)

    shutil.rmtree(models.model_dir / "qwen")
    assert models("pull", "qwen").returncode == 0
    before = set(Volume(models.model_dir, "qwen").manifest.files)
    forged = models("pull", "lightning")

    assert "lightning arrived damaged: adapters/lightning-4.safetensors has another SHA-256" in forged.stderr
    assert set(Volume(models.model_dir, "qwen").manifest.files) == before
    assert not list((models.model_dir / "qwen").glob("adapters/*"))
