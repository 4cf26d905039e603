"""The memory plan of each card, by the sizes of the published checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.a100worker.backends.qwen.checkpoint import Checkpoint, Part
from services.a100worker.backends.qwen.memory.plans import Budget, Fit, Plan, check_capability, choose
from shared.errors import ConfigError

TRANSFORMER, TEXT_ENCODER = Part(20_430_000_000, 20_386_000_000), Part(8_292_000_000, 7_190_000_000)
PUBLISHED = Checkpoint(Path(), "Qwen-Image-Edit-2511", 60, TRANSFORMER, TEXT_ENCODER, vae=Part(127_000_000))
BUDGET = Budget(PUBLISHED, adapter_bytes=1_300_000_000)
A100_80, CARD_64, CARD_48, A100_40, CARD_32, L4, T4 = (gib * 1024**3 for gib in (79, 62, 47, 39, 31, 22, 14))


@pytest.mark.parametrize(
    ("card", "fit"),
    [
        (A100_80, Fit(Plan.RESIDENT)),
        (CARD_64, Fit(Plan.RESIDENT)),
        (61_500_000_000, Fit(Plan.RESIDENT, offload_encoder=True)),
        (CARD_48, Fit(Plan.CAST)),
        (A100_40, Fit(Plan.CAST)),
        (CARD_32, Fit(Plan.OFFLOAD)),
        (35_000_000_000, Fit(Plan.CAST, offload_encoder=True)),
        (L4, Fit(Plan.OFFLOAD)),
    ],
)
def test_the_fastest_plan_that_fits_is_taken(card: int, fit: Fit) -> None:
    """The text encoder leaves the card while it paints only where the rest does not fit."""
    assert choose("auto", BUDGET, card) == fit


def test_without_a_card_every_plan_fits() -> None:
    """Tests run on the processor."""
    assert choose("auto", BUDGET, None) == Fit(Plan.RESIDENT)
    assert choose("cast", BUDGET, None) == Fit(Plan.CAST)


def test_a_wished_plan_that_fits_is_taken() -> None:
    """Also where a faster plan would fit."""
    assert choose("offload", BUDGET, A100_80).plan is Plan.OFFLOAD


def test_a_wished_plan_that_does_not_fit_is_refused_with_one_that_does() -> None:
    """Before a minute of loading that ends in an error."""
    with pytest.raises(ConfigError, match=r"resident needs 61\.0 GB .* 41\.9 GB are free; A100WORKER_QWEN_PLAN=cast"):
        choose("resident", BUDGET, A100_40)


def test_a_card_that_is_too_small_for_everything_is_refused() -> None:
    """There is no plan to name."""
    with pytest.raises(ConfigError, match=r"^No memory plan fits: the smallest needs .* 8\.0 GB are free\. Stop "):
        choose("auto", BUDGET, 8_000_000_000)


def test_plans_need_less_one_after_the_other() -> None:
    """Or the order of `auto` would make no sense."""
    fits = [
        Fit(Plan.RESIDENT),
        Fit(Plan.RESIDENT, offload_encoder=True),
        Fit(Plan.CAST),
        Fit(Plan.CAST, offload_encoder=True),
        Fit(Plan.OFFLOAD),
    ]
    needs = [BUDGET.needed_bytes(fit) for fit in fits]

    assert needs == sorted(needs, reverse=True)
    assert needs[-1] < T4


def test_float32_needs_twice_the_memory() -> None:
    """Four bytes a number: an 80 GB card cannot hold it."""
    wide = Budget(PUBLISHED, BUDGET.adapter_bytes, number_bytes=4)

    weights = TRANSFORMER.numbers + TEXT_ENCODER.numbers + PUBLISHED.vae.numbers
    assert wide.needed_bytes(Fit(Plan.RESIDENT)) - BUDGET.needed_bytes(Fit(Plan.RESIDENT)) == 2 * weights
    assert choose("auto", wide, A100_80).plan is Plan.CAST


@pytest.mark.parametrize("capability", [(7, 5), (7, 0), (6, 1)])
def test_a_card_without_bfloat16_is_refused(capability: tuple[int, int]) -> None:
    """The error text names its compute capability."""
    major, minor = capability
    with pytest.raises(ConfigError, match=rf"compute capability 8\.0 or newer, .* this one has {major}\.{minor}\.$"):
        check_capability(capability)


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0), (12, 0)])
def test_newer_cards_are_accepted(capability: tuple[int, int]) -> None:
    """A100, L4, H100, and those that follow."""
    check_capability(capability)
