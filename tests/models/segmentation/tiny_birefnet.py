"""A stand-in for BiRefNet of 700 bytes, with its exact signature: it finds the pixels unlike the top left corner.

Variants misbehave as exports of real networks do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

Variant = Literal["right", "half", "open size", "wrong shape", "lost numbers", "overflow", "endless"]
_SIDE = 1024
_HALF = {"half", "overflow"}
_STEP, _MIDDLE = 20.0, 40.0  # logits for each unit of normalised colour difference, and how many that is at the edge


def build(path: Path, variant: Variant = "right") -> None:
    """Write the file. `lost numbers` fails at black pixels, `endless` at white ones; both are right otherwise.

    `overflow` is infinite where the object is, because its numbers do not fit 16 bits.
    """
    kind = TensorProto.FLOAT16 if variant in _HALF else TensorProto.FLOAT
    size: list[Any] = ["h", "w"] if variant == "open size" else [_SIDE, _SIDE]
    out_size = [_SIDE // 2, _SIDE // 2] if variant == "wrong shape" else size
    graph = helper.make_graph(
        _nodes(variant),
        "stand-in",
        [helper.make_tensor_value_info("input_image", kind, [1, 3, *size])],
        [helper.make_tensor_value_info("output_image", kind, [1, 1, *out_size])],
        [numpy_helper.from_array(value, name) for name, value in _constants(variant).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())


def _constants(variant: Variant) -> dict[str, Any]:
    return {
        "start": np.array([0, 0]),
        "one": np.array([1, 1]),
        "axes": np.array([2, 3]),
        "sum": np.full((1, 3, 1, 1), _STEP, np.float32),
        "blur": np.full((1, 1, 3, 3), 1 / 9, np.float32),
        "middle": np.array(_MIDDLE, np.float32),
        "eight": np.array([1, 1, 4, 4] if variant == "wrong shape" else [1, 1, 8, 8], np.float32),
        **({"black": np.array(1.9, np.float32), "zero": np.array(0, np.float32)} if variant == "lost numbers" else {}),
        **({"low": np.array(-5, np.float32), "huge": np.array(1e4, np.float32)} if variant == "overflow" else {}),
        **({"white": np.array(2.6, np.float32), "ages": np.array(1_000_000)} if variant == "endless" else {}),
    }


def _nodes(variant: Variant) -> list[Any]:
    node = helper.make_node
    half = variant in _HALF
    pixels, last = ("pixels", "logits") if half else ("input_image", "output_image")
    cast = [node("Cast", ["input_image"], ["pixels"], to=TensorProto.FLOAT)] if half else []
    back = [node("Cast", ["logits"], ["output_image"], to=TensorProto.FLOAT16)] if half else []
    if variant == "overflow":
        back = [node("Clip", ["logits", "low"], ["held"]), node("Mul", ["held", "huge"], ["wide"]),
                node("Cast", ["wide"], ["output_image"], to=TensorProto.FLOAT16)]  # fmt: skip
    return [
        *cast,
        node("AveragePool", [pixels], ["small"], kernel_shape=[8, 8], strides=[8, 8]),
        node("Slice", ["small", "start", "one", "axes"], ["corner"]),
        node("Sub", ["small", "corner"], ["differs"]),
        node("Abs", ["differs"], ["distance"]),
        node("Conv", ["distance", "sum"], ["summed"]),
        node("Conv", ["summed", "blur"], ["blurred"], pads=[1, 1, 1, 1]),
        *_trouble(variant),
        node("Sub", ["troubled" if variant in {"lost numbers", "endless"} else "blurred", "middle"], ["level"]),
        node("Resize", ["level", "", "eight"], [last], mode="linear"),
        *back,
    ]


def _trouble(variant: Variant) -> list[Any]:
    node = helper.make_node
    if variant == "lost numbers":
        return [
            node("ReduceMin", ["small"], ["darkest"], keepdims=0),
            node("Add", ["darkest", "black"], ["above"]),
            node("Sqrt", ["above"], ["root"]),
            node("Mul", ["root", "zero"], ["nothing"]),
            node("Add", ["blurred", "nothing"], ["troubled"]),
        ]
    if variant == "endless":
        state, real, truth = helper.make_tensor_value_info, TensorProto.FLOAT, TensorProto.BOOL
        body = helper.make_graph(
            [node("Conv", ["before", "blur"], ["after"], pads=[1, 1, 1, 1]), node("Identity", ["go"], ["on"])],
            "body",
            [
                state("turn", TensorProto.INT64, []),
                state("go", TensorProto.BOOL, []),
                state("before", TensorProto.FLOAT, None),
            ],
            [state("on", truth, []), state("after", real, None)],
        )
        return [
            node("ReduceMax", ["small"], ["brightest"], keepdims=0),
            node("Greater", ["brightest", "white"], ["is_white"]),
            node("Cast", ["is_white"], ["times"], to=TensorProto.INT64),
            node("Mul", ["times", "ages"], ["turns"]),
            node("Loop", ["turns", "", "blurred"], ["troubled"], body=body),
        ]
    return []
