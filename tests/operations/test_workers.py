"""The recipes about workers: list them with their jobs, and take one out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from shared.messages import Started
from tests.operations.recipes import recipes
from tests.running import script

if TYPE_CHECKING:
    from tests.operations.recipes import Operator
    from tests.running import Desk


async def test_a_worker_is_listed_and_taken_out(operator: Operator, desk: Desk) -> None:
    """The list shows each worker's state and job; the drained one finishes its job and takes no other."""
    async with desk.manager(), desk.worker(name="w1"), desk.worker(name="w2"):
        before = await operator.run("list-workers")
        await desk.submit("j1", script(10_000, interval_ms=20))
        await desk.started("j1")
        busy = next(event.worker for event in await desk.events("j1") if isinstance(event, Started))
        first = json.loads(await operator.run("drain-worker", WORKER=busy))
        second = json.loads(await operator.run("drain-worker", WORKER=busy))
        after = await operator.run("list-workers")
        await desk.cancel("j1")
        code, _, complaint = await operator.result(recipes()["drain-worker"], WORKER="nobody")

    free = "w2" if busy == "w1" else "w1"
    assert before.splitlines() == [f"{name} scripted - cpu ready -" for name in ("w1", "w2")]
    assert first == {"worker": busy, "job": "j1", "again": False}
    assert second["again"] is True
    assert f"{busy} scripted - cpu draining j1" in after
    assert f"{free} scripted - cpu ready -" in after
    assert code != 0
    assert "no responders" in complaint.lower()
