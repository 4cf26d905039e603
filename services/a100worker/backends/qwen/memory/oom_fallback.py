"""The fallbacks for a job that needs more memory than the GPU has: a late or a smaller image is better than none."""

from __future__ import annotations

from enum import IntEnum

_SHORTAGES = ("out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED")


class Fallback(IntEnum):
    """A way to run a job with less memory; each fallback includes those before it."""

    NONE = 0
    """No fallback: the settings as given."""
    TILES = 1
    """The VAE works in tiles."""
    SMALLER = 2
    """Half the area, for the image and for the images that the model is shown."""
    OFFLOAD = 3
    """The text encoder moves to main memory once the prompt is encoded."""

    @property
    def sentence(self) -> str:
        """The message for the user."""
        return _SENTENCES[self]

    @property
    def area_share(self) -> float:
        """The share of the pixels that the job works on."""
        return 0.5 if self >= Fallback.SMALLER else 1.0


_SENTENCES = {
    Fallback.NONE: "Preparing the images",
    Fallback.TILES: "The GPU's memory is short: working in tiles",
    Fallback.SMALLER: "The GPU's memory is short: working at a smaller size",
    Fallback.OFFLOAD: "The GPU's memory is short: working with the text encoder off the GPU",
}


def is_shortage(error: RuntimeError) -> bool:
    """Return whether memory was too small. PyTorch has an exception class for its own shortage, not for cuBLAS's."""
    return any(words in str(error) for words in _SHORTAGES)
