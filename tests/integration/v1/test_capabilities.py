"""GET /v1/capabilities, from a real worker over the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.messages import Task
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.gateway import Client
    from tests.running import Desk


async def balance_of(client: Client) -> dict[str, Any]:
    """Return the present capabilities of a white balance."""
    answer = await client.get("/v1/capabilities")
    assert answer.status_code == 200
    balance: dict[str, Any] = answer.json()["tasks"]["white-balance"]
    return balance


async def test_the_engine_that_serves_is_listed_with_what_it_obeys(client: Client, desk: Desk) -> None:
    """No engine before a worker runs; then its engine, and after a job also the usual duration."""
    assert (await balance_of(client))["engines"] == []

    async def has_engine() -> bool:
        return list((await balance_of(client))["engines"]) == ["scripted"]

    async def has_duration() -> bool:
        return (await balance_of(client))["typical_s"] is not None

    async with desk.manager(), desk.worker():
        await wait_until(has_engine, "the worker has announced itself")
        listed = await balance_of(client)
        assert {"prompt", "seed", "steps", "strength"} <= set(listed["parameters"])
        assert listed["typical_s"] is None
        assert {"image/png", "image/jpeg"} <= set(listed["formats"])
        await desk.submit("j1", task=Task.WHITE_BALANCE)
        await wait_until(has_duration, "the duration of the job is announced")
