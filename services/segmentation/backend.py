"""The interface between the service and its engines: prompts in, soft masks out."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

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
    SeenFeatures: TypeAlias = Callable[[str], NDArray[Any] | None]
    """Return the cached array of a name of CachedFeatures, or None, without computing or waiting."""

BACKENDS = {
    "birefnet": "services.segmentation.backends.birefnet:BiRefNet",
    "fastsam": "services.segmentation.backends.fastsam.engine:FastSam",
    "grabcut": "services.segmentation.backends.grabcut.engine:GrabCut",
    "sam": "services.segmentation.backends.sam.engine:Sam",
}


class Click(NamedTuple):
    """A point in image pixels that is on the object (positive) or off it."""

    x: float
    y: float
    positive: bool


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A validated prompt in image pixels. Exactly one of the fields points, box, strokes, guidance and auto is set."""

    points: tuple[Click, ...] = ()
    previous: Grey | None = None
    """The mask before the last point, of the image's size. Without it, the mask depends on the points alone."""
    box: Box | None = None
    strokes: tuple[Stroke, ...] = ()
    guidance: Grey | None = None
    """An area painted over the object, of the image's size, 255 inside."""
    auto: bool = False
    """Find the main subject without a prompt."""
    candidates: int = 1
    """Maximum number of different answers; more than one can take several times as long."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A possible mask: of the image's size, 0 to 255 with a soft edge, and the engine's confidence, 0 to 1."""

    mask: Grey
    score: float


class CachedFeatures(Protocol):
    """The network outputs and cuts of one image. Each is computed once and shared by all replicas."""

    def __call__(self, name: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the cached array of this name, or the result of `compute`.

        The name must contain everything that determines the result besides the image: network, weights, box, labels.
        The array is shared and read-only. `compute` must not use the cache, because its lock is held meanwhile.
        """


class Engine(Protocol):
    """Finds the object of a prompt. Deterministic, does not change its input, and callable from several threads."""

    @property
    def name(self) -> str:
        """The engine's name in answers."""

    @property
    def note(self) -> str | None:
        """A remark for the user about every answer of this engine, for example that it is coarse, or None."""

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:
        """Return 1 to `prompt.candidates` different masks, best first.

        Call `checkpoint` between stages. Raises NothingFound, JobCancelled, and EngineFailed if a network fails.
        """


class Outlined(NamedTuple):
    """The object under a point: a coarse hard mask over the whole image, of any size, and a score, 0 to 1.

    The mask is empty if no object is there.
    """

    mask: Grey
    score: float


@runtime_checkable
class Outliner(Protocol):
    """An engine that can outline the object under the pointer from cached features alone. Engines may lack this."""

    def outline(self, width: int, height: int, click: Click, seen: SeenFeatures) -> Outlined | None:
        """Return the object at a point of an image of this size; None if the features are not cached.

        Takes tens of milliseconds at most. Raises EngineFailed.
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
