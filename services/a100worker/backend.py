"""What an engine that edits pictures must offer, what it is given and gives back, and where the engines live."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from services.a100worker.cancel_flag import CancelFlag
    from services.a100worker.settings import Settings
    from shared.image_codec import Grey, Rgb
    from shared.messages import Task

    Preview: TypeAlias = Rgb | Callable[[], Rgb]
    """How the picture looks by now, or what makes that; what makes it is called only when somebody will see it."""
    Loading: TypeAlias = Callable[[str], None]
    """Hears which phase of its loading an engine has come to. May raise, to end it."""

BACKENDS = {  # name → import path; nothing heavy is imported until chosen
    "classical": "services.a100worker.backends.classical.engine:Classical",
    "qwen": "services.a100worker.backends.qwen.opening:open_engine",
    "scripted": "services.a100worker.backends.scripted:Scripted",
}


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class EditInputs:
    """One job, decoded. Engines treat the arrays as read-only."""

    task: Task
    image: Rgb
    mask: Grey | None  # of the image's size; where to edit
    balanced: Callable[[], Rgb]  # asks for the image, white-balanced at `strength`
    saliency: Callable[[], Grey | None] = _nothing  # asks what stands out in the image; same size
    reference: Rgb | None = None  # any size
    reference_mask: Grey | None = None  # any size: as it was sent
    reference_saliency: Callable[[], Grey | None] = _nothing  # asks what stands out in the reference; same size
    prompt: str = ""
    negative_prompt: str | None = None
    seed: int = 42
    steps: int = 15
    guidance: float = 4.0
    mask_tool: str | None = None
    strength: float = 1.0
    refine_fill: bool = True
    flow_match: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    """A finished edit."""

    image: Rgb  # of the input's size
    region: Grey | None  # 0 where the image is byte-identical to the input; None: everything may differ
    conditions: tuple[tuple[str, Rgb], ...] = ()  # labelled pictures that the engine worked from, for debugging


class Step(Protocol):
    """How an engine says that it has come a step further, and hears that it should stop."""

    @property
    def cancelled(self) -> CancelFlag:
        """The flag of this job; wait on it, or have it end a call that cannot be interrupted."""

    def __call__(self, done: int, total: int, message: str | None = None, preview: Preview | None = None) -> None:
        """Report that `done` of `total` steps are done, and what comes next. Raises JobCancelled.

        It begins with 0 steps done, and a total of 0 while that is not known, and ends with all of them.
        """


class Editor(Protocol):
    """Edits pictures, one at a time. Made with the worker's settings and a Loading, ended with `close`."""

    name: str

    def edit(self, job: EditInputs, step: Step) -> Edit:
        """Run one job; the same job gives the same picture. Raises BadInput, EngineFailed or JobCancelled."""

    def close(self) -> None:
        """Give back what the engine holds; it is not used afterwards."""


def load(name: str, settings: Settings, loading: Loading) -> Editor:
    """Load a registered engine, or any `module:Class`. Raises ConfigError where there is none, or it cannot load."""
    loading("importing")
    module, _, noun = BACKENDS.get(name, name).partition(":")
    try:
        engine: Callable[[Settings, Loading], Editor] = getattr(importlib.import_module(module), noun)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"There is no engine {name!r}; known are {', '.join(BACKENDS)}.") from error
    try:
        return engine(settings, loading)
    except ModuleNotFoundError as error:
        raise ConfigError(f"The engine {name!r} needs the package {error.name}, which is not installed.") from error


def grey_as_rgb(grey: Grey) -> Rgb:
    """Return the same picture with three equal channels."""
    return np.repeat(grey[..., None], 3, axis=2)


def finish(base: Rgb, edited: Rgb, region: Grey) -> Rgb:
    """Lay `edited` over `base` as far as `region` says; where that is 0, the result is byte-identical to `base`."""
    result = base.copy()
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if rows.size == 0:
        return result
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    weight = region[box][..., None].astype(np.uint32)
    # Rounded integer mean: exact at both ends, 255 gives `edited` and 0 gives `base`.
    mixed = (base[box] * (255 - weight) + edited[box] * weight + 127) // 255
    result[box] = mixed.astype(np.uint8)
    return result
