"""The LoRA adapters, one a task and perhaps one that saves steps: looked through before torch reads a byte of them."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.a100worker.backends.qwen.checkpoint import MODEL, damaged
from services.a100worker.backends.qwen.safetensors_header import read_header
from shared.errors import ConfigError
from shared.messages import Task

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from services.a100worker.backends.qwen.safetensors_header import Tensor
    from shared.volumes import Volume

LIGHTNING = "lightning"
_FOLDER = "adapters"
_TRAINED = (Task.REMOVAL, Task.INSERTION, Task.WHITE_BALANCE)  # a later task needs no adapter to start
_MAX_RANK = 256
_PREFIXES = ("transformer.", "diffusion_model.", "")
_ATTENTION = "to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out"
_LAYER = re.compile(
    rf"transformer_blocks\.(?P<block>\d+)\.(attn\.({_ATTENTION})|(img|txt)_mlp\.net\.(0\.proj|2)|(img|txt)_mod\.1)"
    r"\.(?P<kind>lora_A\.weight|lora_B\.weight|lora_down\.weight|lora_up\.weight|alpha)"
)
_HALVES = {"lora_A.weight": 0, "lora_down.weight": 0, "lora_B.weight": 1, "lora_up.weight": 1}
"""Which axis of the matrix is the rank."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A file that fits the model, and the name that it is switched on by."""

    name: str
    path: Path

    @property
    def size(self) -> int:
        """Its bytes on disk."""
        return self.path.stat().st_size


def find(volume: Volume, blocks: int, *, lightning: str, bare: bool) -> list[Adapter]:
    """Return the adapters of a model with so many blocks; `bare` tasks may have none. Raises ConfigError."""
    files = {task.value: f"{_FOLDER}/{task}.safetensors" for task in _TRAINED}
    if bare:
        files = {name: file for name, file in files.items() if file in volume.manifest.files}
    if lightning != "off":
        files[LIGHTNING] = f"{_FOLDER}/{LIGHTNING}-{lightning}.safetensors"
    return [_checked(volume, name, file, blocks) for name, file in files.items()]


def _checked(volume: Volume, name: str, file: str, blocks: int) -> Adapter:
    if file not in volume.manifest.files:
        # Nobody publishes them, so no command can fetch them from anywhere but a folder of the operator's.
        raise ConfigError(
            f"The adapter {MODEL}/{file} is missing from MODEL_DIR; bring it with `python -m services.models pull "
            f"{MODEL} --from FOLDER`, or edit without, by A100WORKER_QWEN_BARE=true."
        )
    path = volume.verify(file)
    try:
        check(read_header(path), blocks)
    except ValueError as error:
        raise damaged(file, str(error)) from error
    return Adapter(name, path)


def check(tensors: dict[str, Tensor], blocks: int) -> None:
    """Raise ValueError unless these are LoRA matrices, in pairs, of linear layers that the transformer has."""
    if not tensors:
        raise ValueError("it is empty")
    ranks: dict[str, dict[int, int]] = {}
    for key, tensor in tensors.items():
        layer = _layer(key, blocks)
        half = _HALVES.get(layer["kind"])
        if half is not None:
            if len(tensor.shape) != 2 or not 0 < tensor.shape[half] <= _MAX_RANK:  # noqa: PLR2004
                raise ValueError(f"{key} is no matrix of a rank up to {_MAX_RANK}")
            ranks.setdefault(layer[0].removesuffix(layer["kind"]), {})[half] = tensor.shape[half]
    for place, halves in ranks.items():
        if set(halves) != {0, 1} or halves[0] != halves[1]:
            raise ValueError(f"the two matrices of {place.rstrip('.')} do not fit together")


def _layer(key: str, blocks: int) -> re.Match[str]:
    for prefix in _PREFIXES:
        found = _LAYER.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if found is not None and int(found["block"]) < blocks:
            return found
    raise ValueError(f"the model has no layer for {key}")


def load(pipeline: Any, adapters: list[Adapter]) -> None:
    """Load all of them into the pipeline; none is on afterwards. Raises ConfigError, torch.OutOfMemoryError."""
    from torch import OutOfMemoryError  # noqa: PLC0415 (files are looked through before torch is imported)

    for adapter in adapters:
        try:
            _load(pipeline, adapter)
        except OutOfMemoryError:
            raise
        except (ValueError, RuntimeError, KeyError, OSError) as error:
            raise damaged(f"{_FOLDER}/{adapter.path.name}", "it does not fit the model") from error
    if adapters:
        pipeline.disable_lora()


def _load(pipeline: Any, adapter: Adapter) -> None:
    from safetensors.torch import load_file  # noqa: PLC0415 (files are looked through before torch is imported)

    tensors, name = load_file(adapter.path), _peft_name(adapter.name)
    if any(key.startswith("transformer_blocks.") and ".lora_A." in key for key in tensors):
        tensors = {f"transformer.{key}": tensor for key, tensor in tensors.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)  # several are what we want
        pipeline.load_lora_weights(tensors, adapter_name=name)
    # What the library does not understand it leaves out without a word.
    wanted = sum(key.endswith((".lora_A.weight", ".lora_down.weight")) for key in tensors)
    if wanted != sum(name in getattr(module, "lora_A", ()) for module in pipeline.transformer.modules()):
        raise ValueError("not all layers were taken")


class Switch:
    """Turns adapters of one pipeline on and off; nobody else may. After `load` all are off."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._on: list[str] = []

    def to(self, names: list[str]) -> None:
        """Turn these on and all others off, for the pipeline's next step."""
        if names == self._on:
            return
        if not names:
            self._pipeline.disable_lora()
        else:
            if not self._on:
                self._pipeline.enable_lora()
            self._pipeline.set_adapters([_peft_name(name) for name in names])
        self._on = names


def _peft_name(name: str) -> str:
    """PyTorch modules must not be named with a dot, and a dash is a nuisance in their paths."""
    return name.replace("-", "_")
