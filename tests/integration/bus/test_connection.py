"""The log of a connection that is lost and comes back, and the largest message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared import subjects
from shared.bus import open_bus
from shared.errors import TooLarge, Unavailable
from shared.settings import NatsSettings
from tests.ports import HOST, free_port
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from services.stack.nats_server import NatsServer
    from shared.bus import Bus


async def test_a_broker_that_is_away_is_told_of_once(
    bus: Bus, nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Not with each of four attempts a second, but again the next time that it is away."""

    def describe() -> int:
        return sum("Connect call failed" in vars(record).get("reason", "") for record in caplog.records)

    for times in (1, 2):
        await nats_server.kill()
        tries = bus.client._server_pool[0]  # noqa: SLF001 (there is no public counter)
        before = tries.reconnects
        await wait_until(lambda: tries.reconnects >= before + 4, "it has been tried again and again")  # noqa: B023
        assert describe() == times
        await nats_server.start()
        await wait_until(bus.up.is_set, "it is back")


@pytest.mark.parametrize("turns", range(12))
async def test_a_stop_ends_the_first_attempt_to_connect(turns: int) -> None:
    """In whichever turn of the event loop it comes, also in that in which the broker's machine refuses."""
    nobody = NatsSettings(url=f"nats://{HOST}:{free_port()}")

    async with asyncio.timeout(TIMEOUT_S):
        async with open_bus(nobody, "test", wait=False) as bus:
            for _ in range(turns):
                turn = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_soon(turn.set_result, None)
                await turn

    assert bus.opening is not None
    assert bus.opening.cancelled()


async def test_one_of_a_group_receives_a_message(bus: Bus) -> None:
    """Which one, the broker decides; a subscriber without a group receives it too."""
    group: list[bytes] = []
    all_of_them: list[bytes] = []
    async with (
        bus.subscribe(subjects.PHOTOS, lambda message: group.append(message.data), "segmentation"),
        bus.subscribe(subjects.PHOTOS, lambda message: group.append(message.data), "segmentation"),
        bus.subscribe(subjects.PHOTOS, lambda message: all_of_them.append(message.data)),
    ):
        for body in (b"1", b"2", b"3"):
            await bus.emit(subjects.PHOTOS, body)
        await wait_until(lambda: min(len(group), len(all_of_them)) >= 3, "all three have arrived")
        await bus.ping()  # messages in transit arrive before the reply

    assert sorted(group) == all_of_them == [b"1", b"2", b"3"]


async def test_a_message_over_the_limit_never_reaches_the_broker(bus: Bus) -> None:
    """The broker counts the headers too, and would close the connection."""
    limit = bus.client.max_payload
    headers = {"Deadline-Ms": "1700000000000", "traceparent": "x"}
    own = len("NATS/1.0\r\nDeadline-Ms: 1700000000000\r\ntraceparent: x\r\n\r\n")

    with pytest.raises(TooLarge):
        await bus.request("svc.nothing.here", bytes(limit - own + 1), headers=headers)
    with pytest.raises(TooLarge):
        await bus.emit("svc.nothing.here", bytes(limit + 1))
    with pytest.raises(Unavailable):  # nothing listens there
        await bus.request("svc.nothing.here", bytes(limit - own), headers=headers)
    await bus.emit("svc.nothing.here", bytes(limit))
    await bus.ping()

    assert limit == 2 * 1024**2
    assert bus.connects == 1
