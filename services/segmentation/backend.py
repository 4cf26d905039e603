"""The seam between the service and what finds objects: prompts in, soft masks out; engines are imported when chosen."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from services.segmentation.geometry import Box
    from services.segmentation.settings import Settings
    from shared.image_codec import Grey, Rgb
    from shared.messages import Stroke

    Checkpoint: TypeAlias = Callable[[], None]
    """Called between stages; raises JobCancelled to stop the request."""

BACKENDS = {
    "birefnet": "services.segmentation.backends.birefnet:BiRefNet",
    "fastsam": "services.segmentation.backends.fastsam.engine:FastSam",
    "grabcut": "services.segmentation.backends.grabcut.engine:GrabCut",
}


class Click(NamedTuple):
    """A point of the picture, in pixels, that belongs to the object (positive) or does not."""

    x: float
    y: float
    positive: bool


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What the user pointed at, checked and in pixels of the picture. Exactly one of the first five is given."""

    points: tuple[Click, ...] = ()
    box: Box | None = None
    strokes: tuple[Stroke, ...] = ()
    guidance: Grey | None = None
    """Painted over the object, of the picture's size, 255 inside."""
    auto: bool = False
    """Nothing was pointed at: find the main subject."""
    candidates: int = 1
    """How many different answers are wanted at most; more than one can take several times as long."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One answer: a mask of the picture's size, 0 to 255 with a soft edge, and how sure the engine is, 0 to 1."""

    mask: Grey
    score: float


class CachedFeatures(Protocol):
    """What networks have seen in one picture: it is looked at once, whichever replica is asked about it again."""

    def __call__(self, name: str, look: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return what `look` returned for this name and picture, on this replica or another, or else look now.

        The name must tell all that the answer depends on beside the picture: network, weights, window. The array is
        shared and read-only. A look must not recall.
        """


class Engine(Protocol):
    """Finds what a prompt points at. Deterministic, leaves its input alone, and may be called from several threads."""

    @property
    def name(self) -> str:
        """What the engine is called in answers."""

    @property
    def note(self) -> str | None:
        """What the user should know about every answer of this engine, e.g. that it is coarse, or None."""

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:
        """Return 1 to `prompt.candidates` different masks, best first.

        `checkpoint` is called between stages and raises JobCancelled to stop. Raises NothingFound, and EngineFailed
        where a network misbehaves.
        """


def load(name: str, settings: Settings) -> Engine:
    """Import and start an engine by its registered name or as `module:Class`. Raises ConfigError."""
    path = BACKENDS.get(name, name)
    module_name, _, class_name = path.partition(":")
    if not class_name:
        raise ConfigError(f"There is no segmentation engine called {name}; known: {', '.join(BACKENDS)}.")
    try:
        engine = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"The segmentation engine {name} cannot be imported: {error}.") from error
    return cast("Engine", engine(settings))
