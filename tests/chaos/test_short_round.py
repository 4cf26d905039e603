"""A short run of the driver, so that every change is tested under faults; `make chaos` has the long runs."""

from __future__ import annotations

import asyncio
import sys

import pytest

ROUNDS = 4


@pytest.mark.timeout(240)
async def test_nothing_is_lost_doubled_or_stuck() -> None:
    """The account of the driver after a few faults; its output shows the seed for a repetition."""
    driver = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.driver", "--rounds", str(ROUNDS), "--workers", "2",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await driver.communicate()

    assert driver.returncode == 0, output.decode()[-4000:]
