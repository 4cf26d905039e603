"""The two published file layouts of Segment Anything: names and shapes of tensors, and how an image becomes input.

SAM 2.1: `export_sam2.py` and `sam2_onnx.py` of vietanhdev/samexporter; the image is stretched to the square.
MobileSAM: the export script of facebookresearch/segment-anything, as Acly/MobileSAM publishes it; the image keeps its
proportions, in the top left corner of the square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from services.segmentation.geometry import Box, resize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from shared.image_codec import Grey, Rgb

    Shape = tuple[int | None, ...]

SIDE_PX = 1024  # side of the encoder's input; the decoder takes points in its pixels
MAP_PX = 256  # side of the decoder's maps
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of ImageNet, as in training, for pixels of 0 to 255
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
_PROMPT: dict[str, Shape] = {
    "point_coords": (1, None, 2),
    "point_labels": (1, None),
    "mask_input": (1, 1, MAP_PX, MAP_PX),
    "has_mask_input": (1,),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and shapes; None is a dimension that a file may leave open."""

    name: str
    stretches: bool
    """Whether the image is stretched to the square; otherwise only its longer side fills the square."""
    embeddings: Mapping[str, Shape]
    """The encoder's outputs, which are inputs of the decoder."""
    prompt: Mapping[str, Shape]
    masks: str
    """The decoder's output of maps, (1, n, 256, 256), one logit a pixel."""
    pads_points: bool
    """Whether a prompt without a box needs a further point with the label -1."""

    def input_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height of an image in the encoder's square."""
        if self.stretches:
            return SIDE_PX, SIDE_PX
        scale = SIDE_PX / max(width, height)
        return max(1, math.floor(width * scale + 0.5)), max(1, math.floor(height * scale + 0.5))

    def window(self, width: int, height: int) -> Box:
        """Return the box of image pixels that the square covers; it may reach beyond the image."""
        return Box(0, 0, width, height) if self.stretches else Box(0, 0, max(width, height), max(width, height))

    def map_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height in a map of 256 x 256 that show the image."""
        across, down = self.input_size(width, height)
        return max(1, round(across * MAP_PX / SIDE_PX)), max(1, round(down * MAP_PX / SIDE_PX))

    def scale_point(self, x: float, y: float, width: int, height: int) -> tuple[float, float]:
        """Convert a point from image pixels to pixels of the square."""
        across, down = self.input_size(width, height)
        return x * across / width, y * down / height

    def prepare(self, image: Rgb, shape: Sequence[int | str | None]) -> NDArray[np.float32]:
        """Return the encoder's input: normalised planes, or plain pixels for a file that normalises them."""
        height, width = image.shape[:2]
        small = resize(image, *self.input_size(width, height)).astype(np.float32)
        if len(shape) == _BARE_DIMENSIONS:
            return small
        planes = np.zeros((1, 3, SIDE_PX, SIDE_PX), np.float32)
        planes[0, :, : small.shape[0], : small.shape[1]] = ((small - _MEAN) / _DEVIATION).transpose(2, 0, 1)
        return planes

    def mask_input(self, mask: Grey, strength: float) -> NDArray[np.float32]:
        """Return a mask of the image's size as logits for the decoder, (1, 1, 256, 256)."""
        height, width = mask.shape
        small = resize(mask, *self.map_size(width, height)).astype(np.float32)
        logits = np.full((1, 1, MAP_PX, MAP_PX), -strength, np.float32)
        logits[0, 0, : small.shape[0], : small.shape[1]] = (small / 127.5 - 1) * strength
        return logits


_BARE_DIMENSIONS = 3  # (height, width, 3)

SAM2 = Layout(
    name="SAM 2.1",
    stretches=True,
    embeddings={
        "image_embed": (1, 256, 64, 64),
        "high_res_feats_0": (1, 32, MAP_PX, MAP_PX),
        "high_res_feats_1": (1, 64, 128, 128),
    },
    prompt=_PROMPT,
    masks="masks",
    pads_points=False,
)
MOBILE_SAM = Layout(
    name="MobileSAM",
    stretches=False,
    embeddings={"image_embeddings": (1, 256, 64, 64)},
    prompt={**_PROMPT, "orig_im_size": (2,)},
    masks="low_res_masks",
    pads_points=True,
)
_SCORES = "iou_predictions"
_ENCODER_INPUTS: tuple[Shape, ...] = ((1, 3, SIDE_PX, SIDE_PX), (None, None, 3))


def recognise(encoder: Any, decoder: Any) -> Layout:
    """Return the layout of two sessions of onnxruntime. Raises ValueError with the difference."""
    names = {node.name for node in decoder.get_inputs()}
    layout = next((each for each in (SAM2, MOBILE_SAM) if names >= each.embeddings.keys()), None)
    if layout is None:
        raise ValueError(f"the decoder's inputs are {', '.join(sorted(names))}")
    _require("input", {**layout.embeddings, **layout.prompt}, decoder.get_inputs(), exactly=True)
    _require("output", {layout.masks: (1, None, MAP_PX, MAP_PX), _SCORES: (1, None)}, decoder.get_outputs())
    _require("output", layout.embeddings, encoder.get_outputs())
    image = encoder.get_inputs()
    if len(image) != 1 or not any(_fits(image[0].shape, shape) for shape in _ENCODER_INPUTS):
        raise ValueError(f"the encoder's input has the shape {image[0].shape if image else None}")
    return layout


def _require(kind: str, wanted: Mapping[str, Shape], nodes: Sequence[Any], *, exactly: bool = False) -> None:
    shapes = {node.name: node.shape for node in nodes}
    if missing := sorted(wanted.keys() - shapes.keys()):
        raise ValueError(f"the {kind} {missing[0]} is missing")
    if exactly and (others := sorted(shapes.keys() - wanted.keys())):
        raise ValueError(f"the {kind} {others[0]} is unknown")
    for name, shape in wanted.items():
        if not _fits(shapes[name], shape):
            raise ValueError(f"the {kind} {name} has the shape {shapes[name]}")


def _fits(found: Sequence[Any], wanted: Shape) -> bool:
    """Return whether a declared shape, which may leave a dimension open, allows a wanted one."""
    pairs = zip(found, wanted, strict=False)
    return len(found) == len(wanted) and all(
        not isinstance(side, int) or need is None or side == need for side, need in pairs
    )
