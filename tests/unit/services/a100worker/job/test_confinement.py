"""An edit with an exact mask changes nothing outside it, whatever the engine did."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from services.a100worker.backend import Edit, InsertionInputs, RemovalInputs, edit, load
from services.a100worker.job.confinement import confine
from shared.messages import Task
from tests.unit.services.a100worker.recorder import SETUP, Recorder, box_mask, job, noise, photo

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("task", [Task.REMOVAL, Task.INSERTION])
@pytest.mark.parametrize("engine", ["classical", "scripted"])
def test_outside_the_mask_not_a_byte_changes(engine: str, task: Task) -> None:
    """Neither by a soft rim nor by a shadow; inside it something does."""
    mask = box_mask(300, 451, (301, 61, 400, 200))
    work = job(task, photo("cat"), mask, photo("coffee"), seed=1, steps=3)
    assert isinstance(work, RemovalInputs | InsertionInputs)
    with closing(load(engine, *SETUP)) as loaded:
        free = edit(loaded, work, Recorder())
        done = confine(free, work.image, work.mask)

    assert done.region is not None
    assert not done.region[mask == 0].any()
    assert np.array_equal(done.image[mask == 0], work.image[mask == 0])
    assert not np.array_equal(done.image[mask > 0], work.image[mask > 0])


@pytest.mark.parametrize("writeable", [True, False])
def test_an_edit_of_everything_is_confined_too(writeable: bool) -> None:  # noqa: FBT001 (a parameter)
    """Also where the engine keeps its picture for itself."""
    before, painted, mask = noise(300, 40, 1), noise(300, 40, 2), box_mask(300, 40, (5, 250, 30, 300))
    painted.flags.writeable = writeable
    kept = painted.copy()

    done = confine(Edit(painted, None), before, mask)

    assert np.array_equal(done.image, np.where(mask[..., None] > 0, kept, before))
    assert done.region is not None
    assert np.array_equal(done.region, mask)
