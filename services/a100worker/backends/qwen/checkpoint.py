"""What must lie in MODEL_DIR/qwen, found wanting before a minute is spent on loading it: no torch is needed to look."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.a100worker.backends.qwen.safetensors_header import read_header
from shared.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PIPELINE = "QwenImageEditPlusPipeline"  # of 2509 and 2511; the model of August 2025 has another
WEIGHTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}
_OTHER_FILES = ("scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json")
_FETCH = "`python -m services.models pull qwen` fetches it"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are all there; sizes in bytes, on disk and so two for each number."""

    folder: Path
    blocks: int  # of the transformer
    transformer: int
    text_encoder: int
    vae: int


def inspect(models: Path) -> Checkpoint:
    """Look at the model's folder. Raises ConfigError with the first file that is not as it must be."""
    folder = models / "qwen"
    if _json(folder, "model_index.json").get("_class_name") != PIPELINE:
        raise ConfigError(
            f"The model in qwen/ is none that {PIPELINE} can run; 2509 and 2511 are. {_FETCH.capitalize()}."
        )
    for name in (*(f"{part}/config.json" for part in WEIGHTS), *_OTHER_FILES):
        _json(folder, name)
    blocks = _json(folder, "transformer/config.json").get("num_layers")
    if not isinstance(blocks, int):
        raise ConfigError(f"The model file qwen/transformer/config.json is damaged; {_FETCH} again.")
    return Checkpoint(folder, blocks, **{part: sum(map(_size, _shards(folder, part))) for part in WEIGHTS})


def require(path: Path) -> None:
    """Raise ConfigError unless the file, in a folder of MODEL_DIR/qwen, is there."""
    if not path.is_file():
        raise ConfigError(f"The model file {_name(path)} is missing; {_FETCH}.")


def _shards(folder: Path, part: str) -> list[Path]:
    """Return the files that a part's weights are in: those of its index where it has one."""
    whole = folder / part / WEIGHTS[part]
    index = whole.with_name(f"{whole.name}.index.json")
    if not index.is_file():
        return [whole]
    named = _json(folder, f"{part}/{index.name}").get("weight_map")
    if not isinstance(named, dict) or not named:
        raise ConfigError(f"The model file {_name(index)} is damaged; {_FETCH} again.")
    return [whole.with_name(str(name)) for name in sorted(set(named.values()))]


def _size(shard: Path) -> int:
    require(shard)
    try:
        read_header(shard)
    except ValueError as error:
        raise ConfigError(f"The model file {_name(shard)} is damaged: {error}; {_FETCH} again.") from error
    return shard.stat().st_size


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    require(path)
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"The model file qwen/{name} is damaged; {_FETCH} again.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"The model file qwen/{name} is damaged; {_FETCH} again.")
    return found


def _name(path: Path) -> str:
    """Name a file from MODEL_DIR on: where that is on this machine is nobody's business."""
    parts = path.parts
    return "/".join(parts[len(parts) - 1 - parts[::-1].index("qwen") :])
