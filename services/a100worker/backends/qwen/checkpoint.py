"""What must lie in MODEL_DIR/qwen, found wanting before a minute is spent on loading it: no torch is needed to look."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.a100worker.backends.qwen.safetensors_header import read_header
from shared.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from shared.volumes import Volume

MODEL = "qwen"
PIPELINE = "QwenImageEditPlusPipeline"  # of 2509 and 2511; the model of August 2025 has another
WEIGHTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}
_OTHER_FILES = ("scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are all there; sizes in bytes, on disk and so two for each number."""

    folder: Path
    blocks: int  # of the transformer
    transformer: int
    text_encoder: int
    vae: int


def inspect(volume: Volume) -> Checkpoint:
    """Look at the model's files: names, sizes, forms. Raises ConfigError with the first that is not as it must be.

    Digests are not compared: of 58 GB that takes minutes, and `python -m services.models verify` does it.
    """
    index = volume.path("model_index.json")
    if _json(volume, index.name).get("_class_name") != PIPELINE:
        raise ConfigError(f"The model in {MODEL}/ is none for {PIPELINE}, as Qwen-Image-Edit-2509 and 2511 are.")
    for name in (*(f"{part}/config.json" for part in WEIGHTS), *_OTHER_FILES):
        _json(volume, name)
    blocks = _json(volume, "transformer/config.json").get("num_layers")
    if not isinstance(blocks, int):
        raise damaged("transformer/config.json", "it does not say how many layers there are")
    sizes = {part: sum(_size(volume, shard) for shard in _shards(volume, part)) for part in WEIGHTS}
    return Checkpoint(index.parent, blocks, **sizes)


def damaged(name: str, why: str) -> ConfigError:
    """Return the error to raise for a file."""
    return ConfigError(f"The model file {MODEL}/{name} cannot be used: {why}.")


def _shards(volume: Volume, part: str) -> list[str]:
    """Return the files that a part's weights are in: those of its index where it has one."""
    whole = f"{part}/{WEIGHTS[part]}"
    index = f"{whole}.index.json"
    if index not in volume.manifest.files:
        return [whole]
    named = _json(volume, index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise damaged(index, "it names no files")
    return [f"{part}/{name}" for name in sorted(set(named.values()))]


def _size(volume: Volume, name: str) -> int:
    path = volume.path(name)
    try:
        read_header(path)
    except ValueError as error:
        raise damaged(name, str(error)) from error
    return path.stat().st_size


def _json(volume: Volume, name: str) -> dict[str, Any]:
    try:
        found = json.loads(volume.path(name).read_bytes())
    except ValueError as error:
        raise damaged(name, "it is no JSON") from error
    if not isinstance(found, dict):
        raise damaged(name, "it is no JSON object")
    return found
