"""A checkpoint of Qwen-Image-Edit in name only: all files that are read before torch is imported, with zero weights."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from shared.volumes import MANIFEST, AdapterFacts, FileFacts, VolumeManifest, digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TASKS = ("removal", "insertion", "white-balance")
WIDTH = 8
LAYERS = (
    *(f"attn.{name}" for name in ("to_q", "to_out.0", "add_q_proj")),
    *(f"{side}_{part}" for side in ("img", "txt") for part in ("mlp.net.0.proj", "mlp.net.2", "mod.1")),
)
OUTER_LAYERS = ("img_in", "txt_in", "proj_out", "norm_out.linear")


def safetensors(
    tensors: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None, *, fill: bytes = b"\1"
) -> bytes:
    """Return a file of tensors of these shapes, two bytes a number, each byte the same."""
    end, header = 0, dict[str, Any]()
    if metadata is not None:
        header["__metadata__"] = dict(metadata)
    for name, shape in tensors.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (end, end + size)}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + fill * end


def lora(layer: str = "transformer.transformer_blocks.0.attn.to_q", rank: int = 4) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an adapter of one layer."""
    return {f"{layer}.lora_A.weight": (rank, WIDTH), f"{layer}.lora_B.weight": (WIDTH, rank)}


def transformer() -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Return the shapes of a transformer of two blocks, in two shards; each layer is square."""
    blocks = {f"transformer_blocks.{block}.{layer}.weight": (WIDTH, WIDTH) for block in (0, 1) for layer in LAYERS}
    outer = {f"{layer}.weight": (WIDTH, WIDTH) for layer in OUTER_LAYERS}
    return {**blocks}, {**outer, "txt_norm.weight": (WIDTH,)}


def files(**config: Any) -> dict[str, bytes]:
    """Return a whole checkpoint with an adapter for each task; `config` is added to that of the transformer."""
    name = "transformer/diffusion_pytorch_model"
    shards = [f"{name}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": {f"w{number}": shard.rpartition("/")[2] for number, shard in enumerate(shards)}}
    weights = safetensors({"w": (10, 5)})
    return {
        "model_index.json": json.dumps({"_class_name": "QwenImageEditPlusPipeline"}).encode(),
        "transformer/config.json": json.dumps({"num_layers": 2, **config}).encode(),
        f"{name}.safetensors.index.json": json.dumps(index).encode(),
        **dict(zip(shards, map(safetensors, transformer()), strict=True)),
        "text_encoder/config.json": b"{}",
        "text_encoder/model.safetensors": weights,
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model.safetensors": weights,
        "scheduler/scheduler_config.json": b"{}",
        "tokenizer/tokenizer_config.json": b"{}",
        **{f"adapters/{task}.safetensors": safetensors(lora()) for task in TASKS},
    }


def write_volume(models: Path, contents: Mapping[str, bytes], **adapters: AdapterFacts) -> None:
    """Put the files on the volume, as a pull leaves them; `adapters` are facts by task."""
    home, facts = models / "qwen", {}
    for name, data in contents.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        facts[name] = FileFacts(sha256=digest(path), size_bytes=len(data))
    known = {f"adapters/{task}.safetensors": entry for task, entry in adapters.items()}
    manifest = VolumeManifest(model="qwen", licence="none", sources=("tests",), files=facts, adapters=known)
    (home / MANIFEST).write_text(manifest.model_dump_json())
