"""Reads the strength of a LoRA file from its metadata."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY, _PREFIX = "lora_adapter_metadata", "transformer."


@dataclass(frozen=True, slots=True)
class Strength:
    """PEFT's settings of an adapter, as diffusers writes them into a file's metadata."""

    alpha: float | None = None
    """The alpha of every layer that has none of its own; None means alpha = rank."""
    alpha_by_pattern: Mapping[re.Pattern[str], float] = field(default_factory=dict)
    by_root: bool = False
    """Divide by the root of the rank (rank-stabilised LoRA) and not by the rank."""

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> Strength:
        """Return the settings that a file's metadata holds. Raises ValueError."""
        try:
            settings: dict[str, Any] = json.loads(metadata.get(_KEY) or "{}")
            own = {key.removeprefix(_PREFIX): value for key, value in settings.items() if key.startswith(_PREFIX)}
            patterns = {
                re.compile(rf"(.*\.)?({key})$"): float(value)  # PEFT's rule
                for key, value in (own.get("alpha_pattern") or {}).items()
            }
            alpha = own.get("lora_alpha")
            strength = cls(None if alpha is None else float(alpha), patterns, bool(own.get("use_rslora")))
        except (AttributeError, TypeError, ValueError, re.error) as error:
            raise ValueError(f"its metadata {_KEY} cannot be read") from error
        if own.get("use_dora"):
            raise ValueError("it uses DoRA, which is not supported")
        return strength

    def scale(self, layer: str, rank: int, alpha: float | None = None) -> float:
        """Return the factor of a layer's product; `alpha` is the file's tensor for it and takes precedence."""
        if alpha is not None:
            return alpha / rank
        for pattern, value in self.alpha_by_pattern.items():
            if pattern.match(layer):
                alpha = value
                break
        else:
            alpha = self.alpha
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.by_root else rank)
