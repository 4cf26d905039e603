"""How the weights fit the card: wide, in eight bits, or in the machine's memory until they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.errors import ConfigError

if TYPE_CHECKING:
    from services.a100worker.backends.qwen.checkpoint import Checkpoint, Part


class Plan(StrEnum):
    """Where the weights are while an image is made; the first is the fastest."""

    RESIDENT = "resident"
    """All on the card."""
    CAST = "cast"
    """All on the card, the linear layers in the blocks of the two large parts in eight bits."""
    OFFLOAD = "offload"
    """In the machine's memory; a few blocks at a time come to the card. Several times slower."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A plan, and whether the text encoder has to leave the card after it has read the prompt."""

    plan: Plan
    encoder_leaves: bool = False


# Published peak of a 1024 px edit on an H200: 64.1 GB with 57.7 GB of weights.
_PAINTING_BYTES = 7_000_000_000
_READING_BYTES = 2_000_000_000
_BLOCKS_ON_CARD = 2
_LEAST_CAPABILITY = (8, 0)  # the first with bfloat16


@dataclass(frozen=True, slots=True)
class Budget:
    """The sizes that a plan's need follows from."""

    checkpoint: Checkpoint
    adapters: int
    """Bytes."""
    number_bytes: int = 2
    """Of each number that is not in eight bits: 2 for bfloat16, 4 for float32."""

    def count(self, fit: Fit) -> int:
        """Return the bytes that a card must have free."""
        checkpoint = self.checkpoint
        rest = checkpoint.vae.numbers * self.number_bytes + self.adapters
        if fit.plan is Plan.OFFLOAD:
            large = (checkpoint.transformer.numbers + checkpoint.text_encoder.numbers) * self.number_bytes
            return _PAINTING_BYTES + _BLOCKS_ON_CARD * large // checkpoint.blocks + rest
        transformer, encoder = (
            self._weights(part, fit.plan) for part in (checkpoint.transformer, checkpoint.text_encoder)
        )
        reading = _READING_BYTES + transformer + encoder + rest
        return max(reading, _PAINTING_BYTES + transformer + rest + (0 if fit.encoder_leaves else encoder))

    def _weights(self, part: Part, plan: Plan) -> int:
        small = part.in_blocks if plan is Plan.CAST else 0
        return small + (part.numbers - small) * self.number_bytes


def choose(wish: str, budget: Budget, free: int | None) -> Fit:
    """Return the fit of the wished plan, or for `auto` the fastest, into `free` bytes; None: there is no card.

    Raises ConfigError where none fits.
    """
    plans = list(Plan) if wish == "auto" else [Plan(wish)]
    fits = [fit for plan in plans for fit in _fits(plan)]
    if free is None:
        return fits[0]
    if fitting := [fit for fit in fits if budget.count(fit) <= free]:
        return fitting[0]
    least = budget.count(fits[-1])
    others = [plan for plan in Plan for fit in _fits(plan) if budget.count(fit) <= free]
    advice = f"; A100WORKER_QWEN_PLAN={others[0]} would fit" if others else ""
    raise ConfigError(
        f"The memory plan {fits[-1].plan} needs {_gigabytes(least)} on the card, "
        f"and {_gigabytes(free)} are free{advice}."
    )


def check_capability(capability: tuple[int, int]) -> None:
    """Raise ConfigError for a card that cannot compute in bfloat16."""
    if capability < _LEAST_CAPABILITY:
        major, minor = capability
        raise ConfigError(
            f"Qwen-Image-Edit needs a card of compute capability 8.0 or newer, as A100 and L4 have; this one has "
            f"{major}.{minor}."
        )


def _fits(plan: Plan) -> list[Fit]:
    return [Fit(plan)] if plan is Plan.OFFLOAD else [Fit(plan), Fit(plan, encoder_leaves=True)]


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
