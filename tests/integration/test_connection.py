"""The log of a connection that is lost and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.waiting import wait_until

if TYPE_CHECKING:
    import pytest

    from services.stack.nats_server import NatsServer
    from shared.bus import Bus


async def test_a_broker_that_is_away_is_told_of_once(
    bus: Bus, nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Not with each of four attempts a second, but again the next time that it is away."""

    def told() -> int:
        return sum("Connect call failed" in vars(record).get("reason", "") for record in caplog.records)

    for times in (1, 2):
        await nats_server.kill()
        tries = bus.client._server_pool[0]  # noqa: SLF001 (there is no public counter)
        before = tries.reconnects
        await wait_until(lambda: tries.reconnects >= before + 4, "it has been tried again and again")  # noqa: B023
        assert told() == times
        await nats_server.start()
        await wait_until(bus.up.is_set, "it is back")
