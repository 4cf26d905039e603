"""Stand-ins for SAM 2.1 and MobileSAM with their exact signatures: they find the pixels of the colour under a point.

The encoder passes a small copy of the image on, the decoder compares colours. Its three answers allow for more and more
difference, so they are nested as those of the real networks. Variants misbehave as exports of real networks do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

Variant = Literal[
    "sam",
    "mobile",
    "half",
    "other names",
    "other shape",
    "no mask input",
    "lost numbers",
    "no numbers",
    "wrong output",
    "endless",
]
_MAP, _SIDE, _FOLD = 256, 1024, 4
_ALLOWED, _SCORES = (0.9, 1.6, 4.0), (0.8, 0.9, 0.7)  # differences of normalised colour, summed over the channels
_SINGLE = 1.2, 0.85  # the fourth answer of MobileSAM's decoder, which comes first
_STEEP = 6.0  # logits for each unit of difference
_NOBODY = 1000.0  # the difference from a point that is not there
_PUSH = 0.2  # weight of the mask input
FEATURES = {
    "image_embed": [1, 256, 64, 64],
    "high_res_feats_0": [1, 32, _MAP, _MAP],
    "high_res_feats_1": [1, 64, 128, 128],
}
_MOBILE = {"image_embeddings": [1, 256, 64, 64]}
_MEAN, _DEVIATION = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


class Graph:
    """An ONNX graph that is written as expressions; numbers and arrays become constants."""

    def __init__(self, half: bool) -> None:  # noqa: FBT001
        self._kind = int(TensorProto.FLOAT16 if half else TensorProto.FLOAT)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def __call__(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        name = f"n{len(self._nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, names, [name], **attributes))
        return name

    def _constant(self, value: Any) -> str:
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64)
        self._constants.append(numpy_helper.from_array(array, f"c{len(self._constants)}"))
        return f"c{len(self._constants) - 1}"

    def input(self, name: str, shape: list[Any]) -> str:
        """Declare an input; return its name in full precision."""
        self._inputs.append(helper.make_tensor_value_info(name, self._kind, shape))
        return self("Cast", name, to=int(TensorProto.FLOAT))

    def output(self, name: str, shape: list[Any], value: str) -> None:
        """Declare an output."""
        self._outputs.append(helper.make_tensor_value_info(name, self._kind, shape))
        self._nodes.append(helper.make_node("Cast", [value], [name], to=self._kind))

    def write(self, path: Path) -> None:
        """Check the graph and write it."""
        graph = helper.make_graph(self._nodes, "stand-in", self._inputs, self._outputs, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())


def build(folder: Path, variant: Variant = "sam") -> None:
    """Write encoder.onnx and decoder.onnx. `lost numbers` gives NaN for a black image, `endless` never ends on one."""
    encoder, decoder = Graph(variant == "half"), Graph(variant == "half")
    if variant == "mobile":
        _encode_mobile(encoder)
    else:
        _encode(encoder, variant)
    _decode(decoder, variant)
    encoder.write(folder / "encoder.onnx")
    decoder.write(folder / "decoder.onnx")


def _encode(graph: Graph, variant: Variant) -> None:
    """Pool the image to 256 x 256, the first three channels of high_res_feats_0; all else is zero."""
    image = graph.input("image", [1, 3, _SIDE, _SIDE])
    pooled = graph("AveragePool", image, kernel_shape=[4, 4], strides=[4, 4])
    mean = graph("ReduceMean", image, keepdims=1, axes=[1, 2, 3])
    if variant == "lost numbers":  # a black image is -2 on average
        pooled = graph("Add", pooled, graph("Mul", graph("Sqrt", graph("Add", mean, 1.9)), 0.0))
    if variant == "endless":
        pooled = _turn_for_ever(graph, pooled, mean)
    nothing = graph("Mul", mean, 0.0)
    shapes = dict(FEATURES)
    if variant == "other shape":
        shapes["image_embed"] = [1, 256, 32, 32]
    for name, shape in shapes.items():
        value = graph("Pad", pooled, [0, 0, 0, 0, 0, 29, 0, 0]) if name == "high_res_feats_0" else None
        shown = "embedding" if (variant, name) == ("other names", "image_embed") else name
        graph.output(shown, shape, value or graph("Expand", nothing, shape))


def _turn_for_ever(graph: Graph, pooled: str, mean: str) -> str:
    """Blur a black image a million times."""
    blur = graph("Identity", np.full((3, 1, 3, 3), 1 / 9))
    value, node = helper.make_tensor_value_info, helper.make_node
    body = helper.make_graph(
        [node("Conv", ["before", blur], ["after"], pads=[1, 1, 1, 1], group=3), node("Identity", ["go"], ["on"])],
        "body",
        [value("turn", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("before", 1, None)],
        [value("on", TensorProto.BOOL, []), value("after", 1, None)],
    )
    is_black = graph("Cast", graph("Less", graph("ReduceMean", mean, keepdims=0), -1.9), to=int(TensorProto.INT64))
    return graph("Loop", graph("Mul", is_black, 1_000_000), "", pooled, body=body)


def _encode_mobile(graph: Graph) -> None:
    """Normalise raw pixels of any size and pad them, as Acly's export does; fold 256 x 256 into channels of 64 x 64."""
    pixels = graph.input("input_image", ["height", "width", 3])
    normal = graph("Div", graph("Sub", pixels, _MEAN), _DEVIATION)
    missing = graph("Sub", [_SIDE, _SIDE, 3], graph("Shape", normal))
    square = graph("Pad", normal, graph("Concat", [0, 0, 0], missing, axis=0))
    image = graph("Unsqueeze", graph("Transpose", square, perm=[2, 0, 1]), [0])
    pooled = graph("AveragePool", image, kernel_shape=[4, 4], strides=[4, 4])
    folded = graph("SpaceToDepth", pooled, blocksize=_FOLD)
    padding = [0, 0, 0, 0, 0, 256 - 3 * _FOLD**2, 0, 0]
    graph.output("image_embeddings", _MOBILE["image_embeddings"], graph("Pad", folded, padding))


def _decode(graph: Graph, variant: Variant) -> None:
    mobile = variant == "mobile"
    features = {name: graph.input(name, shape) for name, shape in (_MOBILE if mobile else FEATURES).items()}
    coords = graph.input("point_coords", [1, "points", 2])
    labels = graph("Reshape", graph.input("point_labels", [1, "points"]), [-1, 1])
    if mobile:
        folded = graph("Slice", features["image_embeddings"], [0], [3 * _FOLD**2], [1])
        colours = graph("DepthToSpace", folded, blocksize=_FOLD)
        graph.input("orig_im_size", [2])
    else:
        colours = graph("Slice", features["high_res_feats_0"], [0], [3], [1])
    wanted, unwanted = _differences(graph, graph("Reshape", coords, [-1, 2]), labels, colours)
    allowed, scores = list(_ALLOWED), list(_SCORES)
    if mobile:
        allowed, scores = [_SINGLE[0], *allowed], [_SINGLE[1], *scores]
    room = graph("Sub", np.array(allowed).reshape(-1, 1), wanted)
    nearer = graph("Sub", graph("Sub", unwanted, wanted), 0.1)
    logits = graph("Mul", graph("Min", room, nearer), _STEEP)
    maps = graph("Reshape", logits, [1, len(allowed), _MAP, _MAP])
    if variant != "no mask input":
        mask, has = graph.input("mask_input", [1, 1, _MAP, _MAP]), graph.input("has_mask_input", [1])
        maps = graph("Add", maps, graph("Mul", graph("Mul", mask, has), _PUSH))
    if variant == "no numbers":
        maps = graph("Add", maps, graph("Sqrt", -1.0))
    side = _MAP
    if variant == "wrong output":
        maps, side = graph("AveragePool", maps, kernel_shape=[2, 2], strides=[2, 2]), _MAP // 2
    graph.output("low_res_masks" if mobile else "masks", [1, len(allowed), side, side], maps)
    graph.output("iou_predictions", [1, len(scores)], graph("Identity", [scores]))


def _differences(graph: Graph, coords: str, labels: str, colours: str) -> tuple[str, str]:
    """Return each pixel's difference from the nearest positive point, and from the nearest negative one."""

    def between(low: float, high: float) -> str:
        inside = graph("And", graph("Greater", labels, low), graph("Less", labels, high))
        return graph("Cast", inside, to=int(TensorProto.FLOAT))

    on, off, corner = between(0.5, 1.5), between(-0.5, 0.5), between(1.5, 3.5)
    total = graph("ReduceSum", graph("Mul", coords, corner), [0], keepdims=1)
    centre = graph("Div", total, graph("Max", graph("ReduceSum", corner, [0], keepdims=1), 1e-6))
    moved = graph("Add", graph("Mul", coords, graph("Sub", 1.0, corner)), graph("Mul", centre, corner))
    cells = graph("Clip", graph("Floor", graph("Div", moved, 4.0)), 0.0, _MAP - 1.0)
    index = graph("Cast", graph("ReduceSum", graph("Mul", cells, [1.0, float(_MAP)]), [1], keepdims=0), to=7)
    pixels = graph("Reshape", colours, [3, _MAP * _MAP])
    points = graph("Unsqueeze", graph("Gather", pixels, index, axis=1), [2])
    apart = graph("ReduceSum", graph("Abs", graph("Sub", points, graph("Unsqueeze", pixels, [1]))), [0], keepdims=0)
    nearest = []
    for chosen in (graph("Add", on, corner), off):
        absent = graph("Mul", graph("Sub", 1.0, chosen), _NOBODY)
        nearest.append(graph("ReduceMin", graph("Add", apart, absent), keepdims=1, axes=[0]))
    return nearest[0], nearest[1]
