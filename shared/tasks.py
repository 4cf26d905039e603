"""The images that each task needs. The gateway and the workers refuse a job without them by the same check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from shared.errors import BadInput
from shared.messages import Task


@dataclass(frozen=True, slots=True)
class Needs:
    """The images that a task needs besides the photo. A task ignores the others."""

    mask: bool
    reference: bool


def needs(task: Task) -> Needs:
    """Return the images that a task needs."""
    match task:
        case Task.REMOVAL:
            return Needs(mask=True, reference=False)
        case Task.INSERTION:
            return Needs(mask=True, reference=True)
        case Task.WHITE_BALANCE:
            return Needs(mask=False, reference=False)
    assert_never(task)


def require_images(task: Task, *, mask: str | None, reference: str | None) -> None:
    """Raise BadInput if an image that the task needs is missing."""
    needed = needs(task)
    if needed.mask and not mask:
        raise BadInput("The field mask is missing: mark the region to edit.")
    if needed.reference and not reference:
        raise BadInput("The field reference is missing: it shows the object to insert.")
