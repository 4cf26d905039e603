"""What every engine keeps to: those that need no GPU here, the others in tests/models by the same tests."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.a100worker.backend import BACKENDS, load
from shared.errors import JobCancelled
from shared.messages import Task
from tests.unit.services.a100worker.recorder import SETUP, Recorder, box_mask, job, photo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.a100worker.backend import EditInputs, Editor

TASKS = list(Task)


LIGHT = sorted(set(BACKENDS) - {"qwen"})


@pytest.fixture(params=LIGHT)
def engine(request: pytest.FixtureRequest) -> Iterator[Editor]:
    """Each of them in turn."""
    with closing(load(request.param, *SETUP)) as loaded:
        yield loaded


def edit_of(task: Task, seed: int = 1) -> EditInputs:
    """A small job of that task; its arrays are read-only."""
    mask = box_mask(300, 451, (300, 60, 400, 200))
    if task is Task.WHITE_BALANCE:
        return job(task, photo("cat"), seed=seed)
    return job(task, photo("cat"), mask, seed=seed, steps=3, reference=photo("coffee"))


@pytest.mark.parametrize("task", TASKS)
def test_the_result_has_the_size_of_the_input(engine: Editor, task: Task) -> None:
    """And is uint8 RGB; the input is left alone (it is read-only)."""
    work = edit_of(task)

    edit = engine.edit(work, Recorder())

    assert edit.image.shape == work.image.shape
    assert edit.image.dtype == np.uint8
    assert not np.shares_memory(edit.image, work.image)


@pytest.mark.parametrize("task", [Task.REMOVAL, Task.INSERTION])
def test_outside_the_region_not_a_byte_changes(engine: Editor, task: Task) -> None:
    """Inside it something does."""
    work = edit_of(task)

    edit = engine.edit(work, Recorder())

    assert edit.region is not None
    outside = edit.region == 0
    assert outside.any()
    assert np.array_equal(edit.image[outside], work.image[outside])
    assert not np.array_equal(edit.image, work.image)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_job_gives_the_same_picture(engine: Editor, task: Task) -> None:
    """Byte for byte."""
    first, second = (engine.edit(edit_of(task, seed=7), Recorder()) for _ in range(2))

    assert np.array_equal(first.image, second.image)


@pytest.mark.parametrize("task", TASKS)
def test_steps_are_counted_up_to_the_last(engine: Editor, task: Task) -> None:
    """Never back, never past the total, and the last one ends it."""
    recorder = Recorder()

    engine.edit(edit_of(task), recorder)

    done = [step for step, _ in recorder.steps]
    assert done == sorted(done)
    assert len({step for step in done if step}) == len([step for step in done if step])  # 0 is a phrase, and may repeat
    assert len({total for step, total in recorder.steps if step}) == 1
    assert recorder.steps[-1][0] == recorder.steps[-1][1]


@pytest.mark.parametrize("task", TASKS)
def test_a_preview_shows_something_done(engine: Editor, task: Task) -> None:
    """Never the upload: a person would see it go out of focus, and nothing else."""
    work, recorder = edit_of(task), Recorder()

    engine.edit(work, recorder)

    assert not any(np.array_equal(preview, work.image) for preview in recorder.previews)


@pytest.mark.parametrize("task", TASKS)
def test_a_cancelled_job_stops_at_its_next_step(engine: Editor, task: Task) -> None:
    """And the engine is ready for the next job."""
    recorder = Recorder(cancel_at=1)

    with pytest.raises(JobCancelled):
        engine.edit(edit_of(task), recorder)

    assert len(recorder.steps) == 1
    assert engine.edit(edit_of(task), Recorder()).image.size


@pytest.mark.parametrize("task", TASKS)
def test_pictures_for_debugging_are_labelled_once(engine: Editor, task: Task) -> None:
    """All of them RGB."""
    conditions = engine.edit(edit_of(task), Recorder()).conditions

    labels = [label for label, _ in conditions]
    assert len(set(labels)) == len(labels)
    assert all(picture.ndim == 3 and picture.shape[2] == 3 for _, picture in conditions)
