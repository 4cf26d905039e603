"""What is tried when the card's memory does not suffice, step by step: a picture that comes late or small is one."""

from __future__ import annotations

from enum import IntEnum

import torch


class Rung(IntEnum):
    """Each includes those before it."""

    GROUND = 0
    """As the settings say."""
    TILES = 1
    """The VAE works in tiles."""
    SMALLER = 2
    """Half the area, for the picture and for what the model looks at."""
    OFFLOAD = 3
    """The text encoder leaves the card once it has read the prompt."""

    @property
    def sentence(self) -> str:
        """What the user is told."""
        return _SENTENCES[self]

    @property
    def area(self) -> float:
        """The share of the pixels."""
        return 0.5 if self >= Rung.SMALLER else 1.0


_SENTENCES = {
    Rung.GROUND: "Preparing the pictures",
    Rung.TILES: "The GPU's memory is short: trying again in tiles",
    Rung.SMALLER: "The GPU's memory is short: trying again at a smaller working size",
    Rung.OFFLOAD: "The GPU's memory is short: trying again with the text encoder outside",
}

_SHORTAGES = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED")


def is_shortage(error: RuntimeError) -> bool:
    """Tell whether memory was too small: PyTorch has a class for its own lack, but not for that of CUDA's libraries."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _SHORTAGES)
