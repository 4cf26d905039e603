"""A recipe: the images that the model gets for a task, in their order, and the words around the user's prompt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.messages import Task

_PREFILLED = {"remove object", "insert object", "white balance this image"}
"""The deployed client sends these where the user typed nothing."""


class View(StrEnum):
    """An image that a scene can draw."""

    PHOTO = "photo"
    """The photo's part, unchanged."""
    FILLED = "filled"
    """Removal: the hole filled by LaMa or PatchMatch."""
    TINTED = "tinted"
    """Removal: the object tinted in magenta."""
    BOXED = "boxed"
    """Removal: a red box round the object."""
    HOLLOW = "hollow"
    """The object or the place blackened out; of an insertion with a shadow below it."""
    MASK = "mask"
    """White on black: the object, or the place with its shadow."""
    MARKED = "marked"
    """Insertion: the place tinted in magenta."""
    OBJECT = "object"
    """Insertion: the object at its own proportions on white, in the frame's shape."""
    REFERENCE = "reference"
    """Insertion: the whole reference, stretched to the frame's shape."""
    EDGES = "edges"
    """White balance: the photo's edges, white on black."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The images and words that a task gives to the model."""

    name: str
    task: Task
    views: tuple[View, ...]
    words: str
    """The prompt of a job without one."""
    frame: str
    """The prompt of a job with one; `{prompt}` stands for the user's words."""
    adapter: bool
    """Whether the task's adapter is on: an adapter fits only the images and words that it was trained with."""

    def prompt(self, typed: str) -> str:
        """Return the prompt for the user's words; the client's prefilled words count as an empty prompt."""
        plain = typed.strip()
        if " ".join(plain.casefold().rstrip(".!").split()) in _PREFILLED | {""}:
            return self.words
        return self.frame.replace("{prompt}", plain)
