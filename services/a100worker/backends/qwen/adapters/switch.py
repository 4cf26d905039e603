"""Switches the adapters of one pipeline on and off."""

from __future__ import annotations

from typing import Any


class Switch:
    """The only code that switches adapters. All adapters must be off at first, as they are after loading."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._active: list[str] = []

    def to(self, names: list[str]) -> None:
        """Turn these adapters on and all others off, for the pipeline's next step."""
        if names == self._active:
            return
        if not names:
            self._pipeline.disable_lora()
        else:
            if not self._active:
                self._pipeline.enable_lora()
            self._pipeline.set_adapters([peft_name(name) for name in names])
        self._active = names


def peft_name(name: str) -> str:
    """Return an adapter's name for PEFT, without dots and dashes, which names of PyTorch modules must not contain."""
    return name.replace("-", "_")
