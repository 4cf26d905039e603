"""Model volumes: a file that differs from the pulled one is not loaded."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from shared.errors import ConfigError
from shared.volumes import MANIFEST, FileFacts, Volume, VolumeManifest, digest

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = b"weights" * 1000
FETCHES = r"`python -m services\.models pull net` fetches it\.$"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """Return a folder with one model of one file."""
    facts = FileFacts(sha256=hashlib.sha256(WEIGHTS).hexdigest(), size_bytes=len(WEIGHTS))
    manifest = VolumeManifest(model="net", licence="MIT", sources=("owner/net@1",), files={"a/net.bin": facts})
    (tmp_path / "net" / "a").mkdir(parents=True)
    (tmp_path / "net" / "a" / "net.bin").write_bytes(WEIGHTS)
    (tmp_path / "net" / MANIFEST).write_text(manifest.model_dump_json())
    return tmp_path


def test_what_was_pulled_is_found(model_dir: Path) -> None:
    """By its name in the folder."""
    volume = Volume(model_dir, "net")

    assert volume.path("a/net.bin").read_bytes() == WEIGHTS
    assert volume.verify("a/net.bin") == volume.path("a/net.bin")


def test_a_missing_model_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    """In one sentence."""
    with pytest.raises(ConfigError, match=rf"^The model file net/manifest\.json is missing from MODEL_DIR; {FETCHES}"):
        Volume(tmp_path, "net")


def test_a_manifest_that_is_none_is_named(model_dir: Path) -> None:
    """For example one that was cut short."""
    (model_dir / "net" / MANIFEST).write_text("{")

    with pytest.raises(ConfigError, match=rf"cannot be read; {FETCHES}"):
        Volume(model_dir, "net")


def test_a_missing_file_is_named(model_dir: Path) -> None:
    """Also one that lies there but was never pulled."""
    (model_dir / "net" / "a" / "net.bin").unlink()
    (model_dir / "net" / "stranger.bin").write_bytes(b"?")

    for name in ("a/net.bin", "stranger.bin"):
        with pytest.raises(ConfigError, match=rf"^The model file net/{name} is missing from MODEL_DIR; {FETCHES}"):
            Volume(model_dir, "net").path(name)


@pytest.mark.parametrize("data", [WEIGHTS[:-1], WEIGHTS[:-1] + b"!"], ids=["cut short", "one other byte"])
def test_a_file_that_changed_is_not_loaded(model_dir: Path, data: bytes) -> None:
    """Every byte counts before anything is unpickled."""
    (model_dir / "net" / "a" / "net.bin").write_bytes(data)

    with pytest.raises(ConfigError, match=rf"is not the one that was pulled; {FETCHES}"):
        Volume(model_dir, "net").verify("a/net.bin")


def test_large_files_are_hashed_in_pieces(tmp_path: Path) -> None:
    """A progress callback receives the length of each piece."""
    data, heard = bytes(9 * 1024**2), list[int]()
    (tmp_path / "large").write_bytes(data)

    assert digest(tmp_path / "large", heard.append) == hashlib.sha256(data).hexdigest()
    assert len(heard) > 1
    assert sum(heard) == len(data)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("mine", "add mine FILE` stores it again"), ("lightning-8", "pull lightning` fetches it")],
)
def test_a_damaged_adapter_is_named_with_the_command_that_brings_it(model_dir: Path, name: str, remedy: str) -> None:
    """A pull of the model does not fetch it, because it has a source of its own."""
    data = b"adapter"
    (model_dir / "net" / "adapters").mkdir()
    (model_dir / "net" / "adapters" / f"{name}.bin").write_bytes(b"another")
    facts = FileFacts(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    manifest = VolumeManifest(model="net", licence="MIT", sources=(), files={f"adapters/{name}.bin": facts})
    (model_dir / "net" / MANIFEST).write_text(manifest.model_dump_json())

    with pytest.raises(ConfigError, match=rf"is not the one that was pulled; `.* {remedy}\.$"):
        Volume(model_dir, "net").verify(f"adapters/{name}.bin")
