"""A checkpoint of Qwen-Image-Edit in name only: all files that are looked at before torch, and no weights."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from shared.volumes import MANIFEST, FileFacts, VolumeManifest, digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TASKS = ("removal", "insertion", "white-balance")


def safetensors(tensors: Mapping[str, tuple[int, ...]]) -> bytes:
    """Write a file of tensors of these shapes, two bytes a number, all nought."""
    at, header = 0, dict[str, Any]()
    for name, shape in tensors.items():
        size = 2
        for side in shape:
            size *= side
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (at, at + size)}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


def lora(layer: str = "transformer.transformer_blocks.0.attn.to_q", rank: int = 4) -> dict[str, tuple[int, ...]]:
    """An adapter of one layer."""
    return {f"{layer}.lora_A.weight": (rank, 8), f"{layer}.lora_B.weight": (8, rank)}


def files() -> dict[str, bytes]:
    """A whole checkpoint of two layers, its transformer in two shards."""
    transformer = "transformer/diffusion_pytorch_model"
    shards = [f"{transformer}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": {f"w{number}": name.rpartition("/")[2] for number, name in enumerate(shards)}}
    weights = safetensors({"w": (10, 5)})
    return {
        "model_index.json": json.dumps({"_class_name": "QwenImageEditPlusPipeline"}).encode(),
        "transformer/config.json": b'{"num_layers": 2}',
        f"{transformer}.safetensors.index.json": json.dumps(index).encode(),
        **dict.fromkeys(shards, weights),
        "text_encoder/config.json": b"{}",
        "text_encoder/model.safetensors": weights,
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model.safetensors": weights,
        "scheduler/scheduler_config.json": b"{}",
        "tokenizer/tokenizer_config.json": b"{}",
        **{f"adapters/{task}.safetensors": safetensors(lora()) for task in TASKS},
    }


def pulled(models: Path, contents: Mapping[str, bytes]) -> None:
    """Put the files on the volume, as a pull leaves them."""
    home, facts = models / "qwen", {}
    for name, data in contents.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        facts[name] = FileFacts(sha256=digest(path), size_bytes=len(data))
    manifest = VolumeManifest(model="qwen", licence="none", sources=("tests",), files=facts)
    (home / MANIFEST).write_text(manifest.model_dump_json())
