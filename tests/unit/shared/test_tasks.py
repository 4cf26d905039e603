"""The pictures that each task needs, checked once for the gateway and the workers."""

from __future__ import annotations

import pytest

from shared.errors import BadInput
from shared.messages import Task
from shared.tasks import require_images

GIVEN = "a" * 64


@pytest.mark.parametrize("missing", [None, ""])
@pytest.mark.parametrize(
    ("task", "field", "sentence"),
    [
        (Task.REMOVAL, "mask", "The field mask is missing: mark the region to edit."),
        (Task.INSERTION, "mask", "The field mask is missing: mark the region to edit."),
        (Task.INSERTION, "reference", "The field reference is missing: it shows the object to insert."),
    ],
)
def test_a_missing_picture_is_bad_input(task: Task, field: str, sentence: str, missing: str | None) -> None:
    """With a sentence for the user."""
    given = {"mask": GIVEN, "reference": GIVEN, field: missing}

    with pytest.raises(BadInput) as refused:
        require_images(task, **given)

    assert refused.value.message == sentence


@pytest.mark.parametrize(
    ("task", "mask", "reference"),
    [
        (Task.REMOVAL, GIVEN, None),
        (Task.INSERTION, GIVEN, GIVEN),
        (Task.WHITE_BALANCE, None, None),
        (Task.WHITE_BALANCE, GIVEN, GIVEN),
    ],
)
def test_what_a_task_needs_is_enough(task: Task, mask: str | None, reference: str | None) -> None:
    """More does no harm: the task ignores it."""
    require_images(task, mask=mask, reference=reference)
