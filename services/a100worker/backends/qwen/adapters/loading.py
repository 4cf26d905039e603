"""Loads checked LoRA files into the pipeline, with the trainer's names changed to those of diffusers."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open

from services.a100worker.backends.qwen.adapters.files import FOLDER
from services.a100worker.backends.qwen.adapters.keys import Kind, Names
from services.a100worker.backends.qwen.adapters.strength import Strength
from services.a100worker.backends.qwen.adapters.switch import peft_name
from services.a100worker.backends.qwen.checkpoint import unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from services.a100worker.backends.qwen.adapters.files import Adapter


def load(pipeline: Any, adapters: list[Adapter], layers: Iterable[str]) -> None:
    """Load all adapters into the pipeline, switched off. Raises ConfigError, torch.OutOfMemoryError."""
    for adapter in adapters:
        try:
            _load(pipeline, adapter, Names(layers))
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError, KeyError, OSError) as error:
            raise unusable(f"{FOLDER}/{adapter.path.name}", "it does not fit the model") from error
    if adapters:
        pipeline.disable_lora()


def _load(pipeline: Any, adapter: Adapter, names: Names) -> None:
    with safe_open(adapter.path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is not a mapping)
        matrices = normalize(tensors, file.metadata() or {}, names)
    name = peft_name(adapter.name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)  # several are intended
        pipeline.load_lora_weights(matrices, adapter_name=name)
    # The library skips unknown layers without an error.
    loaded = sum(name in getattr(module, "lora_A", ()) for module in pipeline.transformer.modules())
    if 2 * loaded != len(matrices):
        raise ValueError("not all layers were loaded")


def normalize(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], names: Names
) -> dict[str, torch.Tensor]:
    """Return the matrices under diffusers' names, each down matrix multiplied by the strength of its layer.

    The library applies each product once when it gets no metadata, so the strength must be in the numbers.
    Raises ValueError.
    """
    strength, matrices = Strength.read(metadata), {}
    for layer, keys in names.group(tensors).items():
        down, up = tensors[keys[Kind.DOWN]], tensors[keys[Kind.UP]]
        alpha = float(tensors[keys[Kind.ALPHA]]) if Kind.ALPHA in keys else None
        scale = strength.scale(layer, down.shape[0], alpha)
        matrices[f"transformer.{layer}.lora_A.weight"] = down if scale == 1 else down.float() * scale
        matrices[f"transformer.{layer}.lora_B.weight"] = up
    return matrices
