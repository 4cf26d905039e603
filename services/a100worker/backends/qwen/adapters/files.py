"""Finds the LoRA adapters on a volume and checks them without torch: one for each task, and one that saves steps."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.a100worker.backends.qwen.adapters.bases import base_of
from services.a100worker.backends.qwen.adapters.keys import Kind, Names
from services.a100worker.backends.qwen.adapters.strength import Strength
from services.a100worker.backends.qwen.checkpoint import MODEL, unusable
from shared.errors import ConfigError
from shared.messages import Task
from shared.safetensors_header import read_header
from shared.volumes import AdapterFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from services.a100worker.backends.qwen.checkpoint import Checkpoint
    from shared.safetensors_header import Header, Tensor
    from shared.volumes import Volume

LIGHTNING = "lightning"
FOLDER = "adapters"
MAX_RANK = 512
_LIGHTNING_STEPS = ("8", "4")  # the best first
_PIECE_BYTES = 1 << 20
_WITHOUT_SIGNS = bytes(range(0x80)) * 2  # for bytes.translate: so that -0.0 counts as 0.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA file that fits the model."""

    name: str
    """A task's name, or LIGHTNING; the adapter is switched on by it."""
    path: Path
    sha256: str = ""
    facts: AdapterFacts = field(default_factory=AdapterFacts)

    @property
    def size(self) -> int:
        """Its bytes on disk."""
        return self.path.stat().st_size


def lightning_steps(volume: Volume, setting: str) -> str:
    """Return `off` or the steps of the Lightning adapter: the setting, or for `auto` the best adapter on the volume."""
    if setting != "auto":
        return setting
    return next((steps for steps in _LIGHTNING_STEPS if _file(f"{LIGHTNING}-{steps}") in volume.manifest.files), "off")


def find(volume: Volume, checkpoint: Checkpoint, *, lightning: str) -> list[Adapter]:
    """Return the adapters on the volume; a task may have none. Raises ConfigError for one that does not fit."""
    wanted = {task.value: _file(task) for task in Task if _file(task) in volume.manifest.files}
    if lightning != "off":
        wanted[LIGHTNING] = _file(f"{LIGHTNING}-{lightning}")
        if wanted[LIGHTNING] not in volume.manifest.files:
            raise ConfigError(
                f"The adapter {MODEL}/{wanted[LIGHTNING]} is missing from MODEL_DIR; "
                f"`python -m services.models pull {LIGHTNING}` fetches it, or set A100WORKER_QWEN_LIGHTNING=off."
            )
    return [_verify(volume, checkpoint, name, file) for name, file in wanted.items()]


def _file(name: str) -> str:
    return f"{FOLDER}/{name}.safetensors"


def _verify(volume: Volume, checkpoint: Checkpoint, name: str, file: str) -> Adapter:
    path, facts = volume.verify(file), volume.manifest.adapters.get(file, AdapterFacts())
    try:
        header = read_header(path)
        base = facts.base or base_of(header.metadata)
        if base is not None and base != checkpoint.base:
            raise ValueError(f"it was trained on {base}, and the model is {checkpoint.base}")  # noqa: TRY301
        check(header, checkpoint.layers)
        if _is_zero(path, header, checkpoint.layers):
            raise ValueError("all of its numbers are zero, so it would change nothing")  # noqa: TRY301
    except ValueError as error:
        raise unusable(file, str(error)) from error
    if base is None:
        log.warning("qwen.adapter-base-unknown", extra={"file": file, "model": checkpoint.base})
    return Adapter(name, path, volume.manifest.files[file].sha256, facts)


def check(header: Header, layers: Mapping[str, tuple[int, int]]) -> None:
    """Raise ValueError unless these are LoRA matrices, in pairs, of layers that the transformer has."""
    if not header.tensors:
        raise ValueError("it is empty")
    Strength.read(header.metadata)
    for layer, keys in Names(layers).group(header.tensors).items():
        outputs, inputs = layers[layer]
        down, up = header.tensors[keys[Kind.DOWN]].shape, header.tensors[keys[Kind.UP]].shape
        if len(down) != 2 or len(up) != 2 or not 0 < down[0] <= MAX_RANK:  # noqa: PLR2004 (a matrix)
            raise ValueError(f"the tensors of {layer} are not matrices of a rank up to {MAX_RANK}")
        if down[0] != up[1]:
            raise ValueError(f"the ranks of the two matrices of {layer} differ ({down[0]} and {up[1]})")
        if (up[0], down[1]) != (outputs, inputs):
            raise ValueError(f"{layer} is {outputs} x {inputs} in the model, and {up[0]} x {down[1]} in the adapter")


def _is_zero(path: Path, header: Header, layers: Iterable[str]) -> bool:
    """Return whether the adapter changes nothing, because one matrix of each pair is zero."""
    with path.open("rb") as file:
        return all(
            any(_is_zero_tensor(file, header.tensors[keys[kind]]) for kind in (Kind.UP, Kind.DOWN))
            for keys in Names(layers).group(header.tensors).values()
        )


def _is_zero_tensor(file: BinaryIO, tensor: Tensor) -> bool:
    file.seek(tensor.start)
    left = tensor.end - tensor.start
    while left > 0 and (piece := file.read(min(left, _PIECE_BYTES))):
        if piece.translate(_WITHOUT_SIGNS).strip(b"\0"):
            return False
        left -= len(piece)
    return True
