"""A nearly full log: no unsettled submission leaves it, and no owner pays for the volume of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nats.js.api import DiscardPolicy

from services.jobmanager.history.retention import Retention
from shared import subjects
from shared.deliveries import pull
from shared.errors import StreamFull
from shared.messages import JobClass
from shared.topology import DISPATCHERS, JOB_LOG

if TYPE_CHECKING:
    from shared.bus import Bus
    from tests.running import Desk

LIMIT = 512 * 1024
LONG = "x" * 9_000


@pytest.fixture
async def small_log(bus: Bus) -> Bus:
    """Reduce the log to a thousandth of its size."""
    jetstream = bus.client.jetstream()
    await jetstream.update_stream((await jetstream.stream_info(JOB_LOG)).config.evolve(max_bytes=LIMIT))
    return bus


async def fill_level(bus: Bus) -> float:
    return float((await bus.info(JOB_LOG, {}))["state"]["bytes"]) / LIMIT


async def read_log(bus: Bus, owner: str) -> set[str]:
    found = await bus.subjects_in(JOB_LOG, f"job.submit.*.*.{owner}.*")
    return {subjects.parse_submission(subject).job_id for subject in found}


async def flood(desk: Desk, owner: str, count: int, *, ended: bool) -> set[str]:
    jobs = {f"{owner}-{number}" for number in range(count)}
    for job_id in sorted(jobs):
        await desk.submit(job_id, LONG, user=owner)
        if ended:
            await desk.cancel(job_id)
    return jobs


async def test_a_full_log_refuses_and_forgets_nothing(small_log: Bus, desk: Desk) -> None:
    """The broker keeps all accepted submissions."""
    with pytest.raises(StreamFull):
        await flood(desk, "ann", 100, ended=False)
    accepted = await read_log(small_log, "ann")

    assert await small_log.get(JOB_LOG, 1) is not None
    assert len(accepted) == await small_log.last_sequence(JOB_LOG) > 40


async def test_only_the_largest_owner_pays(small_log: Bus, desk: Desk) -> None:
    """Her ended submissions leave, the oldest first; a waiting one and all of another owner stay."""
    waiting = await desk.submit("waits", LONG, user="ann")
    small = await flood(desk, "bob", 5, ended=True) | await flood(desk, "bob-too", 1, ended=False)
    large = await flood(desk, "ann", 40, ended=True)
    assert await fill_level(small_log) > 0.75
    await Retention(small_log).make_room()
    left = await read_log(small_log, "ann")

    assert await fill_level(small_log) < 0.67
    assert await read_log(small_log, "bob") | await read_log(small_log, "bob-too") == small
    assert await small_log.get(JOB_LOG, waiting) is not None
    assert max(left & large) == max(large)
    assert len(left) < len(large)


async def test_a_log_with_room_is_left_alone(small_log: Bus, desk: Desk) -> None:
    """Nothing is removed before it is needed."""
    large = await flood(desk, "ann", 30, ended=True)

    assert await Retention(small_log).make_room()
    assert await read_log(small_log, "ann") == large


async def test_jobs_that_wait_are_never_removed(small_log: Bus, desk: Desk) -> None:
    """Not even if nothing else would make room."""
    waiting = await flood(desk, "ann", 43, ended=False)

    assert not await Retention(small_log).make_room()
    assert await read_log(small_log, "ann") == waiting


async def test_a_settled_job_without_any_trace_makes_room(small_log: Bus, desk: Desk) -> None:
    """Its events and its record have expired. One that the dispatcher has not settled stays."""
    await flood(desk, "ann", 45, ended=False)
    for _ in range(30):
        delivery = await pull(small_log, JOB_LOG, DISPATCHERS[JobClass.INTERACTIVE], wait_s=1.0)
        assert delivery is not None
        await delivery.ack()
    await Retention(small_log).make_room()

    assert await fill_level(small_log) < 0.67
    assert await small_log.get(JOB_LOG, 31) is not None


async def test_an_original_stays_while_its_replay_is_logged(small_log: Bus, desk: Desk) -> None:
    """Without it, the replay would count as the original."""
    first = await desk.submit("j1", LONG, user="ann")
    await desk.cancel("j1")
    await flood(desk, "ann", 42, ended=True)
    replay = await desk.submit("j1", LONG, user="ann")
    await Retention(small_log).make_room()

    assert await small_log.get(JOB_LOG, first) is not None
    assert await small_log.get(JOB_LOG, replay) is not None


@pytest.mark.usefixtures("small_log")
async def test_another_owners_job_runs_beside_a_flood(desk: Desk) -> None:
    """It was accepted before the log was full; before, the flood pushed it out."""
    await desk.submit("bobs", user="bob")
    with pytest.raises(StreamFull):
        await flood(desk, "ann", 100, ended=True)
    async with desk.manager(), desk.worker():
        await desk.done("bobs")


async def test_a_log_of_the_first_release_is_taken_over(desk: Desk) -> None:
    """It dropped its oldest message when it was full; the new rule applies without loss."""
    jetstream = desk.bus.client.jetstream()
    await desk.submit("j1")
    old = (await jetstream.stream_info(JOB_LOG)).config.evolve(discard=DiscardPolicy.OLD)
    await jetstream.update_stream(old)
    async with desk.manager(), desk.worker():
        await desk.done("j1")

    assert (await jetstream.stream_info(JOB_LOG)).config.discard == DiscardPolicy.NEW
