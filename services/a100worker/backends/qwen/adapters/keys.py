"""Maps the names that trainers give to LoRA matrices to the layers of the transformer.

Known forms: diffusers (`transformer.<layer>`), PEFT (`base_model.model.<layer>`), ai-toolkit
(`diffusion_model.<layer>`), kohya and musubi (`lora_unet_<layer with underscores>`), DiffSynth (`pipe.dit.<layer>`),
lightx2v and others (`<layer>`). Each may have `lora_A`/`lora_B`, `lora_down`/`lora_up` or `lora.down`/`lora.up`,
followed by an adapter's name (`.default`), and alphas.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIX = re.compile(r"^(base_model\.model\.|pipe\.dit\.|model\.)?(transformer\.|diffusion_model\.)?")
_FLAT_PREFIX = "lora_unet_"
_SUFFIX = re.compile(
    r"\.(?:(?P<down>lora_A|lora[._]down)|(?P<up>lora_B|lora[._]up))(?:\.\w+)?\.weight$|\.(?P<alpha>alpha)$"
)


class Kind(StrEnum):
    """The role of a tensor in its layer's pair."""

    DOWN = "down"
    """Shape (rank, inputs)."""
    UP = "up"
    """Shape (outputs, rank)."""
    ALPHA = "alpha"
    """A number: the product of the two matrices is multiplied by alpha / rank."""


class Names:
    """The names that the layers of one transformer can have in a LoRA file."""

    def __init__(self, layers: Iterable[str]) -> None:
        self._layers = frozenset(layers)
        self._flat = {f"{_FLAT_PREFIX}{layer.replace('.', '_')}": layer for layer in self._layers}

    def parse(self, key: str) -> tuple[str, Kind]:
        """Return the layer and the role of a tensor. Raises ValueError."""
        found = _SUFFIX.search(key)
        if found is None:
            raise ValueError(f"{key} is not a LoRA matrix; a LoRA file has lora_A and lora_B, or lora_down and lora_up")
        stem = key[: found.start()]
        layer = self._flat.get(stem) or _PREFIX.sub("", stem)
        if layer not in self._layers:
            raise ValueError(f"the model has no layer for {key}")
        return layer, Kind(found.lastgroup or "")

    def group(self, keys: Iterable[str]) -> dict[str, dict[Kind, str]]:
        """Return the keys of a file by layer and role. Raises ValueError."""
        grouped: dict[str, dict[Kind, str]] = {}
        for key in keys:
            layer, kind = self.parse(key)
            if kind in grouped.setdefault(layer, {}):
                raise ValueError(f"{key} and {grouped[layer][kind]} are for the same layer")
            grouped[layer][kind] = key
        for layer, roles in grouped.items():
            if not {Kind.DOWN, Kind.UP} <= roles.keys():
                raise ValueError(f"it lacks a matrix of {layer}; use a complete file")
        return grouped
