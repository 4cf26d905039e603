"""Versions of Qwen-Image-Edit and their adapters; pulls that meet each other, and a disk that is full."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from services.models import inventory, sources
from services.models.exclusive import exclusive
from services.models.manifest import Hub, Model, WeightFile
from shared.errors import Unavailable
from shared.messages import Task
from shared.volumes import AdapterFacts, Volume
from tests.unit.services.a100worker.backends.qwen.volumes import lora, safetensors
from tests.unit.services.models.stand_ins import OTHER, PINNED, ROOT, WEIGHTS, command, folder_with

if TYPE_CHECKING:
    from pathlib import Path


def checkpoint(*, newer: bool) -> dict[str, bytes]:
    """Return the files of a checkpoint by which its version is recognized."""
    flag = b'{"zero_cond_t": true}' if newer else b"{}"
    return {"model_index.json": b"{}", "transformer/config.json": flag}


def model_of(name: str) -> Model:
    """Return the model of this name."""
    (model,) = inventory.select([name])
    return model


@pytest.fixture
def volume_2511(tmp_path: Path, volumes: Path) -> Path:
    """Return a MODEL_DIR with a checkpoint of 2511."""
    inventory.pull(model_of("qwen"), volumes, folder_with(tmp_path, checkpoint(newer=True), "2511"))
    return volumes


def test_a_folder_holds_one_version(tmp_path: Path, volume_2511: Path) -> None:
    """Two would take 116 GB and share their adapters; the other one is refused and nothing changes."""
    with pytest.raises(Unavailable, match=r"qwen-2509 needs .*-2509, and .*qwen holds Qwen-Image-Edit-2511"):
        inventory.pull(model_of("qwen-2509"), volume_2511, folder_with(tmp_path, checkpoint(newer=False), "2509"))

    assert inventory.problem(model_of("qwen"), volume_2511) is None
    assert inventory.problem(model_of("qwen-2509"), volume_2511) == "missing"


def test_the_older_version_takes_the_same_folder(tmp_path: Path, volumes: Path) -> None:
    """The worker reads MODEL_DIR/qwen, whichever version lies there."""
    inventory.pull(model_of("qwen-2509"), volumes, folder_with(tmp_path, checkpoint(newer=False), "2509"))

    assert set(Volume(volumes, "qwen").manifest.files) == {"model_index.json", "transformer/config.json"}
    assert inventory.problem(model_of("qwen"), volumes) == "missing"


def test_files_of_the_other_version_are_not_taken_for_this_one(tmp_path: Path, volumes: Path) -> None:
    """The name decides; the files have to agree."""
    with pytest.raises(Unavailable, match=r"qwen is Qwen-Image-Edit-2511, and these files are Qwen-Image-Edit-2509"):
        inventory.pull(model_of("qwen"), volumes, folder_with(tmp_path, checkpoint(newer=False), "2509"))

    assert inventory.problem(model_of("qwen"), volumes) == "missing"


LIGHTNING_4 = "adapters/lightning-4.safetensors"
TINY_ADAPTER = Model(
    name="tiny-adapter",
    purpose="tests",
    licence="MIT",
    source=Hub("nobody/adapter"),
    files=(WeightFile("adapters/removal.safetensors", "tiny.safetensors", hashlib.sha256(WEIGHTS).hexdigest()),),
    notice="by nobody\n",
    folder="qwen",
    adapter=AdapterFacts(
        base="Qwen-Image-Edit-2511", recipe="tint", words="Remove Object", licence="MIT", source="nobody/adapter"
    ),
    by_default=False,
)


def test_a_published_adapter_joins_its_base_with_its_facts(tmp_path: Path, volume_2511: Path) -> None:
    """The worker finds base, recipe and words in the manifest; the base is as whole as before."""
    assert inventory.pull(TINY_ADAPTER, volume_2511, folder_with(tmp_path, {"tiny.safetensors": WEIGHTS}))

    manifest = Volume(volume_2511, "qwen").manifest
    assert manifest.adapters == {"adapters/removal.safetensors": TINY_ADAPTER.adapter}
    assert manifest.licence == "Apache-2.0"
    assert (volume_2511 / "qwen" / "NOTICE-tiny-adapter").read_text() == "by nobody\n"
    assert "Apache" in (volume_2511 / "qwen" / "NOTICE").read_text()
    assert inventory.problem(TINY_ADAPTER, volume_2511) is None
    assert inventory.problem(model_of("qwen"), volume_2511) is None
    assert not inventory.pull(TINY_ADAPTER, volume_2511)


def test_a_damaged_adapter_does_not_make_its_base_damaged(tmp_path: Path, volume_2511: Path) -> None:
    """Each is pulled again by its own name."""
    inventory.pull(TINY_ADAPTER, volume_2511, folder_with(tmp_path, {"tiny.safetensors": WEIGHTS}))
    (volume_2511 / "qwen/adapters/removal.safetensors").write_bytes(OTHER)

    assert inventory.problem(TINY_ADAPTER, volume_2511) == "damaged (adapters/removal.safetensors)"
    assert inventory.problem(model_of("qwen"), volume_2511) is None


def test_another_adapter_for_the_task_takes_the_place(tmp_path: Path, volume_2511: Path) -> None:
    """It comes from another source, so the digest of the first does not bind it."""
    inventory.pull(TINY_ADAPTER, volume_2511, folder_with(tmp_path, {"tiny.safetensors": WEIGHTS}))
    facts = AdapterFacts(base="Qwen-Image-Edit-2511", licence="MIT", source="else/adapter")
    files = (WeightFile("adapters/removal.safetensors", "tiny.safetensors"),)
    second = replace(TINY_ADAPTER, name="second", source=Hub("else/adapter"), adapter=facts, files=files)

    inventory.pull(second, volume_2511, folder_with(tmp_path, {"tiny.safetensors": OTHER}, "second"))

    assert inventory.problem(second, volume_2511) is None
    assert inventory.problem(TINY_ADAPTER, volume_2511) == "missing"


@pytest.mark.parametrize(
    ("newer", "sentence"),
    [
        (None, "lightning is an adapter for Qwen-Image-Edit-2511, and qwen is missing: pull that first"),
        (False, "lightning needs Qwen-Image-Edit-2511, and .*qwen holds Qwen-Image-Edit-2509"),
    ],
)
def test_lightning_is_refused_without_its_base(
    tmp_path: Path,
    volumes: Path,
    newer: bool | None,  # noqa: FBT001
    sentence: str,
) -> None:
    """Before a byte is fetched."""
    if newer is not None:
        inventory.pull(model_of("qwen-2509"), volumes, folder_with(tmp_path, checkpoint(newer=newer), "base"))

    with pytest.raises(Unavailable, match=sentence):
        inventory.pull(model_of("lightning"), volumes, folder_with(tmp_path, {LIGHTNING_4: WEIGHTS}))

    assert (volumes / "qwen").exists() is (newer is not None)


def test_an_adapter_of_one_s_own_comes_through_standard_input(volume_2511: Path) -> None:
    """From outside a container; its facts are written down."""
    data = safetensors(lora())
    given = ("add", "removal", "--base", "2511", "--recipe", "tint", "--words", "Remove Object")

    added = command(volume_2511, *given, content=data)

    assert (added.returncode, added.stdout) == (0, "removal: added, 0.0 MB\n"), added.stderr
    volume = Volume(volume_2511, "qwen")
    assert volume.verify("adapters/removal.safetensors").read_bytes() == data
    facts = volume.manifest.adapters["adapters/removal.safetensors"]
    assert facts == AdapterFacts(base="Qwen-Image-Edit-2511", recipe="tint", words="Remove Object")
    assert command(volume_2511, "verify", "qwen").returncode == 0


def test_an_adapter_of_one_s_own_comes_from_a_file(tmp_path: Path, volume_2511: Path) -> None:
    """And replaces the one before."""
    (tmp_path / "mine.safetensors").write_bytes(safetensors(lora()))
    for _ in range(2):
        assert command(volume_2511, "add", "lightning-8", str(tmp_path / "mine.safetensors")).returncode == 0

    assert Volume(volume_2511, "qwen").verify("adapters/lightning-8.safetensors").stat().st_size


ADAPTER = safetensors(lora())


@pytest.mark.parametrize(
    ("arguments", "content", "sentence"),
    [
        (("removal",), ADAPTER[:-1], "The adapter cannot be used: it is cut short. Copy the file again."),
        (("removal",), b"", "The adapter cannot be used: it is not a safetensors file. Copy the file again."),
        (("removal",), safetensors({}), "The adapter cannot be used: it is empty. Copy the file again."),
        (("removal", "--base", "2509"), ADAPTER, "The adapter is for Qwen-Image-Edit-2509, and MODEL_DIR/qwen holds"),
        (("removal", "/nope"), b"", "Cannot read /nope: No such file or directory."),
        (("remove",), ADAPTER, f"There is no adapter remove; known are {', '.join(Task)}"),
    ],
)
def test_an_adapter_that_cannot_be_used_changes_nothing(
    volume_2511: Path, arguments: tuple[str, ...], content: bytes, sentence: str
) -> None:
    """A connection may break while it is sent."""
    before = {path: path.read_bytes() for path in volume_2511.rglob("*") if path.is_file()}

    refused = command(volume_2511, "add", *arguments, content=content)

    assert refused.returncode == 1
    assert sentence in refused.stderr
    assert before == {path: path.read_bytes() for path in volume_2511.rglob("*") if path.is_file()}
    assert not list((volume_2511 / "qwen").glob(".adding-*"))


def test_an_adapter_needs_its_base(volumes: Path) -> None:
    """A volume with an adapter alone starts no worker."""
    refused = command(volumes, "add", "removal", content=ADAPTER)

    assert (refused.returncode, refused.stderr) == (1, "qwen is missing from MODEL_DIR: pull it first.\n")


# --- two at once, and too little space --------------------------------------------------------------------------------


def test_a_second_pull_waits_for_the_first(tmp_path: Path, volumes: Path) -> None:
    """It prints a line, and finds the model whole afterwards."""
    (volumes / "u2netp").mkdir(parents=True)
    origin = folder_with(tmp_path, {"fastsam/FastSAM-s.pt": WEIGHTS})
    (volumes / "fastsam").mkdir()
    arguments = [sys.executable, "-m", "services.models", "pull", "fastsam", "--from", str(origin)]
    with exclusive(volumes / "fastsam"):
        second = subprocess.Popen(
            arguments, cwd=ROOT, env={**os.environ, "MODEL_DIR": str(volumes)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert second.stderr is not None
        assert second.stderr.readline() == "fastsam: waiting for another pull to end\n"
        assert not (volumes / "fastsam" / "manifest.json").exists()
    output, _ = second.communicate(timeout=30)

    assert (second.returncode, output) == (0, "fastsam: fetched, 0.0 MB, AGPL-3.0\n")


def test_two_pulls_at_once_leave_a_whole_model(tmp_path: Path, volumes: Path) -> None:
    """Whichever is first."""
    origin = folder_with(tmp_path, {"fastsam/FastSAM-s.pt": WEIGHTS * 500})
    pulls = [
        subprocess.Popen(
            [sys.executable, "-m", "services.models", "pull", "fastsam", "--from", str(origin)],
            cwd=ROOT, env={**os.environ, "MODEL_DIR": str(volumes)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    for one in pulls:
        one.communicate(timeout=60)

    assert [one.returncode for one in pulls] == [0, 0, 0]
    assert command(volumes, "verify", "fastsam").returncode == 0
    assert {path.name for path in (volumes / "fastsam").iterdir()} == {"FastSAM-s.pt", "NOTICE", "manifest.json"}


def test_too_little_space_is_said_before_anything_is_fetched(volumes: Path) -> None:
    """The sizes are known beforehand."""
    volumes.mkdir()

    with pytest.raises(Unavailable, match=r"^tiny needs .* GB more, and .* GB are free at .*\. Nothing was changed\.$"):
        sources.require_space(PINNED, volumes, 10**18)


def test_what_a_killed_command_left_is_removed_by_the_next(tmp_path: Path, volume_2511: Path) -> None:
    """Half of an adapter would lie on the volume for ever."""
    left = volume_2511 / "qwen" / ".adding-half"
    left.mkdir()
    (left / "adapter.safetensors").write_bytes(b"half")
    (tmp_path / "mine.safetensors").write_bytes(ADAPTER)

    assert command(volume_2511, "add", "removal", str(tmp_path / "mine.safetensors")).returncode == 0

    assert [path.name for path in (volume_2511 / "qwen").iterdir() if path.name.startswith(".")] == []
