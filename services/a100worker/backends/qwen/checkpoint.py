"""Checks the files of a checkpoint in MODEL_DIR/qwen before the load, which takes a minute. Does not import torch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError
from shared.safetensors_header import read_header

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from shared.safetensors_header import Tensor
    from shared.volumes import Volume

MODEL = "qwen"
PIPELINE = "QwenImageEditPlusPipeline"  # the class of 2509 and 2511; the model of August 2025 has another one
BASES = ("Qwen-Image-Edit-2509", "Qwen-Image-Edit-2511")
WEIGHTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}
_CONFIG = "transformer/config.json"
_OTHER_FILES = ("scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json")
# Embeddings, img_in, txt_in and proj_out stay wide: they are small, and rounding them would cause large errors.
IN_BLOCKS = re.compile(r"(^|\.)(transformer_blocks|layers|blocks)\.\d+\.")
_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}


@dataclass(frozen=True, slots=True)
class Part:
    """The size of a part, in numbers; a file may store each in two bytes and the GPU in four."""

    numbers: int
    in_blocks: int = 0
    """Of these, in the matrices of the repeated blocks: the plan `cast` stores them in eight bits."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint with all of its files."""

    folder: Path
    base: str
    """One of BASES."""
    blocks: int
    """Of the transformer."""
    transformer: Part
    text_encoder: Part
    vae: Part
    layers: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    """The linear layers of the transformer by name: outputs and inputs. A LoRA adapter may change these."""


def inspect(volume: Volume) -> Checkpoint:
    """Check the names, sizes and headers of the model's files. Raises ConfigError for the first wrong file.

    Does not compare digests: 58 GB take minutes, and `python -m services.models verify` does it.
    """
    index = volume.path("model_index.json")
    if _json(volume, index.name).get("_class_name") != PIPELINE:
        raise ConfigError(f"The model in {MODEL}/ does not fit {PIPELINE}; use Qwen-Image-Edit-2509 or 2511.")
    for name in (*(f"{part}/config.json" for part in WEIGHTS), *_OTHER_FILES):
        _json(volume, name)
    config = _json(volume, _CONFIG)
    blocks = config.get("num_layers")
    if not isinstance(blocks, int):
        raise _damage_error(_CONFIG, "it lacks the number of layers")
    parts = {part: _tensors(volume, part) for part in WEIGHTS}
    sizes = {part: _measure(tensors) for part, tensors in parts.items()}
    base = BASES[1] if config.get("zero_cond_t") else BASES[0]
    return Checkpoint(index.parent, base, blocks, **sizes, layers=_linear_layers(parts["transformer"]))


def unusable(name: str, reason: str) -> ConfigError:
    """Return the error to raise for a file."""
    return ConfigError(f"The model file {MODEL}/{name} cannot be used: {reason}.")


def _damage_error(name: str, reason: str) -> ConfigError:
    remedy = f"check it with `python -m services.models verify {MODEL}`, then run `pull {MODEL}`"
    return unusable(name, f"{reason}; {remedy}")


def _linear_layers(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    return {
        name.removesuffix(".weight"): (tensor.shape[0], tensor.shape[1])
        for name, tensor in tensors.items()
        if name.endswith(".weight") and len(tensor.shape) == 2  # noqa: PLR2004 (a matrix)
    }


def _measure(tensors: Mapping[str, Tensor]) -> Part:
    counts = {name: (tensor.end - tensor.start) // _BYTES.get(tensor.dtype, 1) for name, tensor in tensors.items()}
    matrices = [name for name, tensor in tensors.items() if len(tensor.shape) == 2 and IN_BLOCKS.search(name)]  # noqa: PLR2004
    return Part(sum(counts.values()), sum(counts[name] for name in matrices))


def _shards(volume: Volume, part: str) -> list[str]:
    """Return the names of the files with a part's weights: those of its index, if it has one."""
    whole = f"{part}/{WEIGHTS[part]}"
    index = f"{whole}.index.json"
    if index not in volume.manifest.files:
        return [whole]
    named = _json(volume, index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise _damage_error(index, "it names no files")
    return [f"{part}/{name}" for name in sorted(set(named.values()))]


def _tensors(volume: Volume, part: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name in _shards(volume, part):
        path = volume.path(name)
        try:
            tensors |= read_header(path).tensors
        except ValueError as error:
            raise _damage_error(name, str(error)) from error
    return tensors


def _json(volume: Volume, name: str) -> dict[str, Any]:
    try:
        found = json.loads(volume.path(name).read_bytes())
    except ValueError as error:
        raise _damage_error(name, "it is not JSON") from error
    if not isinstance(found, dict):
        raise _damage_error(name, "it is not a JSON object")
    return found
