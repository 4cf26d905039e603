"""The workers that live, as a gateway counts them."""

from __future__ import annotations

from services.gateway.core.workers import Workers
from services.gateway.v1.capabilities import capabilities_of
from shared.bus import Bus
from shared.messages import Task, TaskAbility, WorkerAbilities

CLASSICAL = WorkerAbilities(
    worker="w1",
    engine="classical",
    tasks={
        Task.REMOVAL: TaskAbility(parameters=["variant"], typical_ms=1200),
        Task.INSERTION: TaskAbility(parameters=[]),
    },
)
QWEN = WorkerAbilities(
    worker="w2", engine="qwen", tasks={Task.REMOVAL: TaskAbility(parameters=["prompt", "seed"], typical_ms=8000)}
)


async def test_a_worker_is_forgotten_when_it_falls_silent() -> None:
    """Ten seconds after its last announcement; another worker stays."""
    now = 100.0
    workers = Workers(Bus(), clock=lambda: now)
    workers.note(CLASSICAL)
    now += 9
    workers.note(QWEN)
    assert await workers.present() == [CLASSICAL, QWEN]
    now += 2

    assert await workers.present() == [QWEN]


async def test_the_newest_announcement_of_a_worker_counts() -> None:
    """A worker that starts with another engine replaces its announcement."""
    workers = Workers(Bus())
    workers.note(CLASSICAL)
    workers.note(QWEN.model_copy(update={"worker": "w1"}))

    assert [each.engine for each in await workers.present()] == ["qwen"]


def test_the_abilities_of_all_workers_are_united() -> None:
    """Engines and parameters of each task together, and the duration of the fastest."""
    tasks = capabilities_of([CLASSICAL, QWEN]).tasks

    assert tasks[Task.REMOVAL].model_dump() == {
        "engines": ["classical", "qwen"],
        "parameters": ["prompt", "seed", "variant"],
        "typical_s": 1.2,
        "formats": ["image/png", "image/jpeg", "image/webp", "image/avif"],
    }
    assert (tasks[Task.INSERTION].engines, tasks[Task.INSERTION].typical_s) == (["classical"], None)
    assert tasks[Task.WHITE_BALANCE].engines == []


def test_without_a_worker_every_task_is_listed_without_an_engine() -> None:
    """The request itself succeeds: the answer is that nothing can be edited now."""
    tasks = capabilities_of([]).tasks

    assert set(tasks) == set(Task)
    assert all(task.engines == task.parameters == [] and task.typical_s is None for task in tasks.values())


async def test_a_drained_worker_is_listed_and_offers_nothing() -> None:
    """It takes no job, so clients are not promised its engine."""
    workers = Workers(Bus())
    workers.note(CLASSICAL)
    workers.note(QWEN.model_copy(update={"state": "draining", "job": "j1", "model": "Qwen-Image-Edit-2511"}))

    assert await workers.present() == [CLASSICAL]
    assert workers.instances() == [
        {"instance": "w1", "engine": "classical", "state": "ready"},
        {"instance": "w2", "engine": "qwen", "model": "Qwen-Image-Edit-2511", "state": "draining", "job": "j1"},
    ]


def test_a_worker_that_falls_silent_is_lost_for_ten_minutes() -> None:
    """An operator sees its name, its last job and the time since then; one that stops in order is not lost."""
    now = 100.0
    workers = Workers(Bus(), clock=lambda: now)
    workers.note(CLASSICAL)
    workers.note(QWEN.model_copy(update={"job": "j1"}))
    workers.note(CLASSICAL.model_copy(update={"state": "stopped"}))
    now += 42
    lost = workers.instances()
    now += 600

    assert lost == [{"instance": "w2", "engine": "qwen", "state": "lost", "job": "j1", "silent_s": 42}]
    assert workers.instances() == []
