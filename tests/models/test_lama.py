"""LaMa as ONNX, on a stand-in with its signature that paints every hole grey."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from services.a100worker.backends.lama.fill import HoleFiller
from services.a100worker.backends.lama.lama import Lama, providers
from shared.errors import ConfigError, EngineFailed
from shared.messages import Task
from tests.models.edits import HEIGHT, MASK, WIDTH, edit_of, piece
from tests.models.seal import seal
from tests.unit.services.a100worker.recorder import Recorder

if TYPE_CHECKING:
    from pathlib import Path

    from shared.image_codec import Grey

GREY, NOTHING = 128.0, np.zeros((HEIGHT, WIDTH), np.uint8)


def build(models: Path, side: int | str = 512, paint: float = GREY, mask: str = "mask") -> Path:
    """Write `255 * image * (1 - mask) + paint * mask` as lama/lama.onnx, as it comes out of a pull."""
    constants = {"white": 255.0, "one": 1.0, "paint": paint}
    graph = helper.make_graph(
        [
            helper.make_node("Sub", ["one", mask], ["known"]),
            helper.make_node("Mul", ["image", "white"], ["levels"]),
            helper.make_node("Mul", ["levels", "known"], ["kept"]),
            helper.make_node("Mul", [mask, "paint"], ["painted"]),
            helper.make_node("Add", ["kept", "painted"], ["output"]),
        ],
        "lama",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, side, side])
         for name, channels in (("image", 3), (mask, 1))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in constants.items()],
    )  # fmt: skip
    folder = models / "lama"
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "lama.onnx")
    seal(folder)
    return folder


def open_lama(models: Path) -> Lama:
    """Open the file that is there."""
    found = Lama.find(models, "cpu")
    assert found is not None
    return found


@pytest.mark.parametrize("side", [512, "any"])
def test_a_hole_is_painted_and_the_rest_is_left_alone(tmp_path: Path, side: int | str) -> None:
    """Whether the file takes one size or any."""
    build(tmp_path, side)

    filled = open_lama(tmp_path).fill(piece(), MASK, NOTHING)

    inner = (slice(25, 65), slice(35, 55))
    assert np.abs(filled[inner].astype(int) - int(GREY)).max() <= 1
    assert np.array_equal(filled[MASK == 0], piece()[MASK == 0])


def test_what_must_not_be_copied_is_unknown_but_not_painted(tmp_path: Path) -> None:
    """It keeps its pixels."""
    build(tmp_path)
    avoid: Grey = np.zeros_like(MASK)
    avoid[:, :20] = 255

    filled = open_lama(tmp_path).fill(piece(), MASK, avoid)

    assert np.array_equal(filled[:, :20], piece()[:, :20])


def test_a_removal_is_shown_lama_s_fill(tmp_path: Path) -> None:
    """Where its file is on the volume."""
    build(tmp_path)
    filler = HoleFiller(tmp_path, "cpu")
    fill = filler.of(edit_of(Task.REMOVAL), Recorder())

    filled = fill(piece(), MASK, None)

    filler.close()
    assert np.abs(filled[30:60, 38:52].astype(int) - int(GREY)).max() <= 1


def test_without_the_file_there_is_none(tmp_path: Path) -> None:
    """And PatchMatch fills."""
    assert Lama.find(tmp_path, "cpu") is None


def test_numbers_without_a_meaning_are_no_fill(tmp_path: Path) -> None:
    """They would come out as any colour."""
    build(tmp_path, paint=float("nan"))

    with pytest.raises(EngineFailed):
        open_lama(tmp_path).fill(piece(), MASK, NOTHING)


def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """Changed since it was pulled; pulled damaged; another network."""
    folder = build(tmp_path)
    (folder / "lama.onnx").write_bytes(b"x" * (folder / "lama.onnx").stat().st_size)
    with pytest.raises(ConfigError, match="is not the one that was pulled"):
        Lama.find(tmp_path, "cpu")
    seal(folder)
    with pytest.raises(ConfigError, match=r"lama/lama\.onnx cannot be used: it is damaged"):
        Lama.find(tmp_path, "cpu")

    (tmp_path / "other").mkdir()
    build(tmp_path / "other", mask="hole")
    with pytest.raises(ConfigError, match="other inputs"):
        Lama.find(tmp_path / "other", "cpu")


_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("device", "available", "chosen"),
    [
        ("cuda:1", [_CUDA, _CPU], [(_CUDA, {"device_id": "1"}), _CPU]),
        ("cuda", [_CUDA, _CPU], [(_CUDA, {"device_id": "0"}), _CPU]),
        ("cuda", [_CPU], [_CPU]),
        ("cpu", [_CUDA, _CPU], [_CPU]),
    ],
)
def test_it_computes_on_the_engine_s_own_card(device: str, available: list[str], chosen: list[object]) -> None:
    """Another worker may have the first one; without any the processor does it."""
    assert providers(device, available) == chosen
