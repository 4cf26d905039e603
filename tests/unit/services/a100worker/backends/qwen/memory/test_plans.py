"""Which memory plan a card gets, by the sizes of the published checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.a100worker.backends.qwen.checkpoint import Checkpoint
from services.a100worker.backends.qwen.memory.plans import Plan, chosen, needed
from shared.errors import ConfigError

PUBLISHED = Checkpoint(Path(), blocks=60, transformer=40_860_000_000, text_encoder=16_580_000_000, vae=250_000_000)
ADAPTERS = 1_300_000_000
A100_80, A100_40, L4, T4 = (gib * 1024**3 for gib in (79, 39, 22, 14))


@pytest.mark.parametrize(("card", "plan"), [(A100_80, Plan.RESIDENT), (A100_40, Plan.CAST), (L4, Plan.OFFLOAD)])
def test_the_fastest_plan_that_fits_is_taken(card: int, plan: Plan) -> None:
    """Eighty gigabytes hold all, forty hold half-size weights, anything else a few blocks at a time."""
    assert chosen("auto", PUBLISHED, ADAPTERS, card) is plan


def test_without_a_card_there_is_nothing_to_fit() -> None:
    """Tests run on the processor."""
    assert chosen("auto", PUBLISHED, ADAPTERS, None) is Plan.RESIDENT
    assert chosen("cast", PUBLISHED, ADAPTERS, None) is Plan.CAST


def test_a_wish_that_fits_is_granted() -> None:
    """Also where a faster plan would fit."""
    assert chosen("offload", PUBLISHED, ADAPTERS, A100_80) is Plan.OFFLOAD


def test_a_wish_that_does_not_fit_is_refused_with_what_would() -> None:
    """Before a minute of loading that ends in an error."""
    with pytest.raises(ConfigError, match=r"resident needs 66\.0 GB .* 41\.9 GB are free; A100WORKER_QWEN_PLAN=cast"):
        chosen("resident", PUBLISHED, ADAPTERS, A100_40)


def test_a_card_that_is_too_small_for_everything_is_refused() -> None:
    """There is no plan to name."""
    with pytest.raises(ConfigError, match=r"offload needs .* 8\.0 GB are free\.$"):
        chosen("auto", PUBLISHED, ADAPTERS, 8_000_000_000)


def test_plans_need_less_one_after_the_other() -> None:
    """Or the order of `auto` would make no sense."""
    needs = [needed(plan, PUBLISHED, ADAPTERS) for plan in Plan]

    assert needs == sorted(needs, reverse=True)
    assert needs[-1] < T4
