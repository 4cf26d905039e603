"""A short run of tests/chaos/webhooks.py: nothing is lost, nothing is unsigned, nothing waits for a dead endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.webhooks import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(400)
async def test_webhooks_survive_the_broker_and_a_bad_receiver(tmp_path: Path) -> None:
    """Each end is delivered at least once, as the event that was stored."""
    report = await run(tmp_path, ends=100, kills=1, restarts=1, seed=1)

    assert (report.lost, report.wrong, report.unverified) == (set(), set(), 0)
    assert (report.kills, report.restarts, len(report.delivered)) == (1, 1, 100)
    assert report.refused > 0
