"""The fallbacks for a job that needs more memory than the card has: a late or a smaller image is better than none."""

from __future__ import annotations

from enum import IntEnum

_SHORTAGES = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED")


class Rung(IntEnum):
    """One fallback; each includes those before it."""

    GROUND = 0
    """None: as set."""
    TILES = 1
    """The VAE works in tiles."""
    SMALLER = 2
    """Half the area, for the image and for the images that the model is shown."""
    OFFLOAD = 3
    """The text encoder leaves the card after it has read the prompt."""

    @property
    def sentence(self) -> str:
        """The message for the user."""
        return _SENTENCES[self]

    @property
    def area(self) -> float:
        """The share of the pixels."""
        return 0.5 if self >= Rung.SMALLER else 1.0


_SENTENCES = {
    Rung.GROUND: "Preparing the pictures",
    Rung.TILES: "The GPU's memory is short: working in tiles",
    Rung.SMALLER: "The GPU's memory is short: working at a smaller size",
    Rung.OFFLOAD: "The GPU's memory is short: working with the text encoder off the card",
}


def is_shortage(error: RuntimeError) -> bool:
    """Return whether memory was too small: PyTorch has a class for its own shortage, but none for that of cuBLAS."""
    return any(words in str(error) for words in _SHORTAGES)
