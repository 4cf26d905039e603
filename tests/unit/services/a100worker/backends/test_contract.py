"""The contract of every engine. The engines with a GPU run the same tests in tests/models."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.a100worker.backend import BACKENDS, edit, load
from shared.errors import JobCancelled
from shared.messages import Task
from tests.unit.services.a100worker.recorder import SETUP, Recorder, box_mask, job, photo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.a100worker.backend import Engine, TaskInputs

TASKS = list(Task)
LIGHT = sorted(set(BACKENDS) - {"qwen"})


@pytest.fixture(params=LIGHT)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Return each engine in turn."""
    with closing(load(request.param, *SETUP)) as loaded:
        yield loaded


def edit_of(task: Task, seed: int = 1) -> TaskInputs:
    """Return a small job of that task with read-only arrays."""
    mask = box_mask(300, 451, (300, 60, 400, 200))
    return job(task, photo("cat"), mask, photo("coffee"), seed=seed, steps=3)


@pytest.mark.parametrize("task", TASKS)
def test_the_result_has_the_size_of_the_input(engine: Engine, task: Task) -> None:
    """And is uint8 RGB; the input is left alone (it is read-only)."""
    work = edit_of(task)

    done = edit(engine, work, Recorder())

    assert done.image.shape == work.image.shape
    assert done.image.dtype == np.uint8
    assert not np.shares_memory(done.image, work.image)


@pytest.mark.parametrize("task", [Task.REMOVAL, Task.INSERTION])
def test_outside_the_region_not_a_byte_changes(engine: Engine, task: Task) -> None:
    """Inside it something does."""
    work = edit_of(task)

    done = edit(engine, work, Recorder())

    assert done.region is not None
    outside = done.region == 0
    assert outside.any()
    assert np.array_equal(done.image[outside], work.image[outside])
    assert not np.array_equal(done.image, work.image)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_job_gives_the_same_picture(engine: Engine, task: Task) -> None:
    """Byte for byte."""
    first, second = (edit(engine, edit_of(task, seed=7), Recorder()) for _ in range(2))

    assert np.array_equal(first.image, second.image)


@pytest.mark.parametrize("task", TASKS)
def test_steps_are_counted_up_to_the_last(engine: Engine, task: Task) -> None:
    """Never back, never past the total, and the last one ends it."""
    recorder = Recorder()

    edit(engine, edit_of(task), recorder)

    numbers = [step for step, _ in recorder.steps]
    assert numbers == sorted(numbers)
    assert len({step for step in numbers if step}) == len(
        [step for step in numbers if step]
    )  # 0 is a phrase, and may repeat
    assert len({total for step, total in recorder.steps if step}) == 1
    assert recorder.steps[-1][0] == recorder.steps[-1][1]


@pytest.mark.parametrize("task", TASKS)
def test_a_preview_shows_something_done(engine: Engine, task: Task) -> None:
    """Never the upload: a person would see it go out of focus, and nothing else."""
    work, recorder = edit_of(task), Recorder()

    edit(engine, work, recorder)

    assert not any(np.array_equal(preview, work.image) for preview in recorder.previews)


@pytest.mark.parametrize("task", TASKS)
def test_a_cancelled_job_stops_at_its_next_step(engine: Engine, task: Task) -> None:
    """And the engine is ready for the next job."""
    recorder = Recorder(cancel_at=1)

    with pytest.raises(JobCancelled):
        edit(engine, edit_of(task), recorder)

    assert len(recorder.steps) == 1
    assert edit(engine, edit_of(task), Recorder()).image.size


@pytest.mark.parametrize("task", TASKS)
def test_pictures_for_debugging_are_labelled_once(engine: Engine, task: Task) -> None:
    """All of them RGB."""
    conditions = edit(engine, replace(edit_of(task), debug=True), Recorder()).conditions

    labels = [label for label, _ in conditions]
    assert len(set(labels)) == len(labels)
    assert all(picture.ndim == 3 and picture.shape[2] == 3 for _, picture in conditions)
