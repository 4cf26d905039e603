"""The start of the gateway: it waits for the broker, but not for long."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway.service import wait_for_broker


async def test_it_waits_until_the_streams_are_there() -> None:
    """Requests that come in between would be refused."""
    declared = asyncio.Event()
    waiting = asyncio.create_task(wait_for_broker(declared, asyncio.Event(), wait_s=60.0), name="test.waiting")
    await asyncio.wait({waiting}, timeout=0.05)
    early = waiting.done()
    declared.set()
    await waiting

    assert not early


@pytest.mark.parametrize(("stopped", "wait_s"), [(True, 60.0), (False, 0.01)])
async def test_it_waits_for_no_broker_after_a_signal_or_too_long(*, stopped: bool, wait_s: float) -> None:
    """Without a broker the gateway answers too: that it is not available."""
    stop = asyncio.Event()
    if stopped:
        stop.set()

    async with asyncio.timeout(10):
        await wait_for_broker(asyncio.Event(), stop, wait_s=wait_s)
