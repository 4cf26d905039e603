"""The contract of all engines, kept by the diffusion engine: the same tests, on the tiny checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.services.a100worker.backends.test_contract import (  # noqa: F401 (pytest finds them here)
    test_a_cancelled_job_stops_at_its_next_step,
    test_outside_the_region_not_a_byte_changes,
    test_pictures_for_debugging_are_labelled_once,
    test_steps_are_counted_up_to_the_last,
    test_the_result_has_the_size_of_the_input,
    test_the_same_job_gives_the_same_picture,
)

if TYPE_CHECKING:
    from services.a100worker.backends.qwen.engine import Qwen


@pytest.fixture(params=["qwen", "stock_qwen"])
def engine(request: pytest.FixtureRequest) -> Qwen:
    """In place of the engines that need no GPU: with adapters and without."""
    found: Qwen = request.getfixturevalue(request.param)
    return found
