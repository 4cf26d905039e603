"""How the weights fit the card: as they are, at half their size, or in the machine's memory until they are needed."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from shared.errors import ConfigError

if TYPE_CHECKING:
    from services.a100worker.backends.qwen.checkpoint import Checkpoint


class Plan(StrEnum):
    """Where the weights are while a picture is made; the first is the fastest."""

    RESIDENT = "resident"
    """All on the card: 80 GB."""
    CAST = "cast"
    """All on the card, the two large parts kept as 8-bit floats and computed with as bfloat16: 40 GB."""
    OFFLOAD = "offload"
    """In the machine's memory; a few blocks at a time come to the card: 16 GB, and several times slower."""


# Published peak of a 1024 px edit on an H200: 64.1 GB with 57.7 GB of weights.
_ACTIVATIONS = 7_000_000_000
_BLOCKS = 60  # of the transformer; two are on the card at a time


def needed(plan: Plan, weights: Checkpoint, adapters: int) -> int:
    """Return the bytes that a card must have free."""
    large = weights.transformer + weights.text_encoder
    match plan:
        case Plan.RESIDENT:
            return _ACTIVATIONS + large + weights.vae + adapters
        case Plan.CAST:
            return _ACTIVATIONS + large // 2 + weights.vae + adapters
        case Plan.OFFLOAD:
            return _ACTIVATIONS + 2 * large // _BLOCKS + weights.vae + adapters


def chosen(wish: str, weights: Checkpoint, adapters: int, free: int | None) -> Plan:
    """Return the wished plan, or for `auto` the fastest that fits into `free` bytes; None: the machine has no card.

    Raises ConfigError where none fits.
    """
    plans = list(Plan) if wish == "auto" else [Plan(wish)]
    fitting = [plan for plan in plans if free is None or needed(plan, weights, adapters) <= free]
    if fitting:
        return fitting[0]
    least = needed(plans[-1], weights, adapters)
    others = [plan for plan in Plan if needed(plan, weights, adapters) <= (free or 0)]
    advice = f"; A100WORKER_QWEN_PLAN={others[0]} would fit" if others else ""
    raise ConfigError(
        f"The memory plan {plans[-1]} needs {_gb(least)} on the card, and {_gb(free or 0)} are free{advice}."
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
