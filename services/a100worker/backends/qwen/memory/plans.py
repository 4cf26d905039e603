"""Memory plans: the weights are on the GPU at full width or in 8 bits, or in main memory until they are needed."""

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
    """All on the GPU."""
    CAST = "cast"
    """All on the GPU, the linear layers in the blocks of the two large parts as 8-bit numbers."""
    OFFLOAD = "offload"
    """In main memory; a few blocks at a time are copied to the GPU. Several times slower."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A plan, and whether the text encoder has to move to main memory once the prompt is encoded."""

    plan: Plan
    offload_encoder: bool = False


# Published peak of a 1024 px edit on an H200: 64.1 GB with 57.7 GB of weights.
_PAINTING_BYTES = 7_000_000_000
_READING_BYTES = 2_000_000_000
_BLOCKS_ON_CARD = 2
_LEAST_CAPABILITY = (8, 0)  # the first GPUs with bfloat16


@dataclass(frozen=True, slots=True)
class Budget:
    """The sizes that decide how much memory a plan needs."""

    checkpoint: Checkpoint
    adapter_bytes: int
    number_bytes: int = 2
    """Of each number that is not in eight bits: 2 for bfloat16, 4 for float32."""

    def needed_bytes(self, fit: Fit) -> int:
        """Return the bytes that a GPU must have free."""
        checkpoint = self.checkpoint
        rest = checkpoint.vae.numbers * self.number_bytes + self.adapter_bytes
        if fit.plan is Plan.OFFLOAD:
            large = (checkpoint.transformer.numbers + checkpoint.text_encoder.numbers) * self.number_bytes
            return _PAINTING_BYTES + _BLOCKS_ON_CARD * large // checkpoint.blocks + rest
        transformer, encoder = (
            self._weights(part, fit.plan) for part in (checkpoint.transformer, checkpoint.text_encoder)
        )
        reading = _READING_BYTES + transformer + encoder + rest
        return max(reading, _PAINTING_BYTES + transformer + rest + (0 if fit.offload_encoder else encoder))

    def _weights(self, part: Part, plan: Plan) -> int:
        small = part.in_blocks if plan is Plan.CAST else 0
        return small + (part.numbers - small) * self.number_bytes


def choose(wish: str, budget: Budget, free_bytes: int | None) -> Fit:
    """Return the configured plan, or for `auto` the fastest one that fits into `free_bytes` (None on the CPU).

    Raises ConfigError if none fits.
    """
    plans = list(Plan) if wish == "auto" else [Plan(wish)]
    fits = [fit for plan in plans for fit in _fits(plan)]
    if free_bytes is None:
        return fits[0]
    if fitting := [fit for fit in fits if budget.needed_bytes(fit) <= free_bytes]:
        return fitting[0]
    raise ConfigError(_describe_shortage(fits[-1], budget, free_bytes))


def _describe_shortage(wished: Fit, budget: Budget, free_bytes: int) -> str:
    needs = {fit: budget.needed_bytes(fit) for plan in Plan for fit in _fits(plan)}
    free = _gigabytes(free_bytes)
    others = [fit.plan for fit, needed in needs.items() if needed <= free_bytes]
    if not others:
        smallest = _gigabytes(min(needs.values()))
        return (
            f"No memory plan fits: the smallest needs {smallest} on the GPU, and {free} are free. "
            f"Stop other programs or use a GPU with more memory."
        )
    return (
        f"The memory plan {wished.plan} needs {_gigabytes(needs[wished])} on the GPU, and {free} are free; "
        f"A100WORKER_QWEN_PLAN={others[0]} would fit."
    )


def check_capability(capability: tuple[int, int]) -> None:
    """Raise ConfigError for a GPU that cannot compute in bfloat16."""
    if capability < _LEAST_CAPABILITY:
        major, minor = capability
        raise ConfigError(
            f"Qwen-Image-Edit needs a GPU of compute capability 8.0 or newer, such as an A100 or L4; this one has "
            f"{major}.{minor}."
        )


def _fits(plan: Plan) -> list[Fit]:
    return [Fit(plan)] if plan is Plan.OFFLOAD else [Fit(plan), Fit(plan, offload_encoder=True)]


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
