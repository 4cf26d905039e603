"""The engine contract for engines that need torch or large weights, with tiny models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.segmentation.backend import BACKENDS, load
from tests.unit.services.segmentation.backends.test_engine_contract import (  # noqa: F401 (collected here again)
    cold,
    prompt,
    test_a_cancelled_request_stops,
    test_a_plain_picture_holds_nothing,
    test_an_engine_is_deterministic_cold_or_warm,
    test_masks_fit_the_picture,
    test_the_input_is_left_alone,
    test_two_requests_at_once_get_their_own_answers,
)

if TYPE_CHECKING:
    from services.segmentation.backend import Engine
    from services.segmentation.settings import Settings


@pytest.fixture(scope="module", params=sorted(BACKENDS.keys() - {"grabcut"}))  # that one is asked in tests/unit
def engine(request: pytest.FixtureRequest, tiny: Settings) -> Engine:
    """Each of them; nothing is skipped."""
    return load(request.param, tiny)
