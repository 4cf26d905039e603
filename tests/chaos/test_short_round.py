"""A short run of the driver, so that every change meets some violence; `make chaos` has the long ones."""

from __future__ import annotations

import asyncio
import sys

import pytest

ROUNDS = 4


@pytest.mark.timeout(240)
async def test_nothing_is_lost_doubled_or_stuck() -> None:
    """The driver's account after a few acts of violence; its output names the seed to repeat."""
    driver = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.driver", "--rounds", str(ROUNDS), "--workers", "2",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await driver.communicate()

    assert driver.returncode == 0, output.decode()[-4000:]
