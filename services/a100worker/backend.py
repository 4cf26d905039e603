"""The interface of the engines that edit images, and their registry."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, assert_never

import cv2
import numpy as np

from shared.errors import ConfigError
from shared.messages import DEFAULT_GUIDANCE, DEFAULT_STEPS, Task
from shared.source_types import SourceType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from services.a100worker.cancel_flag import CancelFlag
    from services.a100worker.imaging.placement import Box
    from services.a100worker.settings import Settings
    from shared.image_codec import Grey, Rgb

    Preview: TypeAlias = Rgb | Callable[[], Rgb]
    """The unfinished image, or a function that makes it, which the worker calls only if it sends a preview.

    Both are read before the report returns, so the engine may change the image afterwards.
    """
    PhaseReporter: TypeAlias = Callable[[str], None]
    """Reports the phase of loading that begins. May raise, to end the loading."""

BACKENDS = {  # name → import path; an engine's libraries are imported only when it is chosen
    "classical": "services.a100worker.backends.classical.engine:Classical",
    "qwen": "services.a100worker.backends.qwen.opening:open_engine",
    "scripted": "services.a100worker.backends.scripted:Scripted",
}


_DRAWING = frozenset({"prompt", "negative_prompt", "seed", "steps", "guidance"})
_BAND_ROWS = 128


def _list_parameters(task: Task) -> frozenset[str]:
    match task:
        case Task.REMOVAL:
            return _DRAWING | {"variant"}
        case Task.INSERTION:
            return _DRAWING
        case Task.WHITE_BALANCE:
            return _DRAWING | {"strength", "temperature"}
    assert_never(task)


PARAMETERS = {task: _list_parameters(task) for task in Task}
"""The fields of a submission that change how an engine edits, by task."""


def _no_saliency() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class EditInputs:
    """The decoded inputs that all tasks share. Engines treat all arrays as read-only."""

    image: Rgb
    prompt: str = ""
    negative_prompt: str | None = None
    seed: int = 42
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    flow_match: bool = False
    debug: bool = False  # False: `Edit.conditions` is not used


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalInputs(EditInputs):
    """The inputs of a removal."""

    mask: Grey  # of the image's size; where to edit
    exact_mask: bool = False  # the worker restores the pixels outside the mask; a fill may then end at the mask
    variant: int = 0  # 1: the result should differ from that of 0; an engine with seeds may ignore it
    mask_tool: str | None = None
    fetch_saliency: Callable[[], Grey | None] = _no_saliency  # of the image, in its size


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertionInputs(EditInputs):
    """The inputs of an insertion."""

    mask: Grey  # of the image's size; where to edit
    reference: Rgb  # any size
    reference_mask: Grey | None = None  # any size, as it was sent
    fetch_reference_saliency: Callable[[], Grey | None] = _no_saliency  # of the reference, in its size


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteBalanceInputs(EditInputs):
    """The inputs of a white balance."""

    fetch_balanced: Callable[[], Rgb]  # the image, white-balanced by the image utilities at the requested warmth
    strength: float = 1.0  # 0 leaves the image as it is


TaskInputs: TypeAlias = RemovalInputs | InsertionInputs | WhiteBalanceInputs


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a model made an edit, for the job's receipt."""

    recipe: str
    windows: tuple[Box, ...]  # the painted parts of the image
    adapters: Mapping[str, str]  # the SHA-256 of each adapter that was on


@dataclass(frozen=True, slots=True)
class Edit:
    """A finished edit."""

    image: Rgb  # of the input's size
    region: Grey | None  # 0 where the image is byte-identical to the input; None: everything may differ
    conditions: tuple[tuple[str, Rgb], ...] = ()  # labelled images that the engine worked from, for debugging
    provenance: Provenance | None = None
    by_network: bool = False  # a trained network painted a part of the edit, or chose its colours

    @property
    def source_type(self) -> SourceType | None:
        """Return the source type that the engine's work gives a photo; None if it painted nothing (a white balance)."""
        if self.by_network:
            return SourceType.COMPOSITE_WITH_NETWORK
        return None if self.region is None else SourceType.COMPOSITE


class StepReporter(Protocol):
    """Reports the steps of one job. Engines must call it often, because this call raises a cancel in the engine."""

    @property
    def cancel_flag(self) -> CancelFlag:
        """The cancel flag of this job. An engine can wait on it, or register an action that ends a native call."""

    def __call__(self, done: int, total: int, message: str | None = None, preview: Preview | None = None) -> None:
        """Report that `done` of `total` steps are done, and in `message` which step begins. Raises JobCancelled.

        Begin with 0 steps done, and a total of 0 while that is unknown. End with all steps done.
        """


class Engine(Protocol):
    """Edits images, one at a time, with a method for each task. The constructor takes the settings and a PhaseReporter.

    The same inputs give the same image. Each method raises BadInput, EngineFailed or JobCancelled.
    """

    name: str

    @abstractmethod
    def remove(self, job: RemovalInputs, step: StepReporter, /) -> Edit:
        """Remove the marked region of the image."""

    @abstractmethod
    def insert(self, job: InsertionInputs, step: StepReporter, /) -> Edit:
        """Insert the reference's object into the marked region."""

    @abstractmethod
    def balance(self, job: WhiteBalanceInputs, step: StepReporter, /) -> Edit:
        """Correct the white balance of the whole image."""

    @abstractmethod
    def close(self) -> None:
        """Release memory and processes. The engine is not used afterwards."""


def facts_of(engine: Engine) -> Mapping[str, str]:
    """Return the facts that an engine reports in its health. Its attribute `facts` is optional."""
    facts: Mapping[str, str] = getattr(engine, "facts", {})
    return facts


def parameters_of(engine: Engine, task: Task) -> frozenset[str]:
    """Return the parameters that an engine obeys in a task: all of them, if it lacks the optional attribute `obeys`."""
    obeyed: Mapping[Task, frozenset[str]] = getattr(engine, "obeys", PARAMETERS)
    return obeyed.get(task, frozenset()) & PARAMETERS[task]


def edit(engine: Engine, job: TaskInputs, step: StepReporter) -> Edit:
    """Run one job with the engine's method for its task. Raises BadInput, EngineFailed or JobCancelled."""
    match job:
        case RemovalInputs():
            return engine.remove(job, step)
        case InsertionInputs():
            return engine.insert(job, step)
        case WhiteBalanceInputs():
            return engine.balance(job, step)
    assert_never(job)


def load(name: str, settings: Settings, report_phase: PhaseReporter) -> Engine:
    """Load a registered engine, or any `module:Class`. Raises ConfigError if it does not exist or cannot load."""
    report_phase("importing")
    module, _, noun = BACKENDS.get(name, name).partition(":")
    try:
        engine: Callable[[Settings, PhaseReporter], Engine] = getattr(importlib.import_module(module), noun)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(BACKENDS)
        raise ConfigError(f"The engine {name!r} cannot be imported ({error}). The engines are {known}.") from error
    try:
        return engine(settings, report_phase)
    except ModuleNotFoundError as error:
        raise ConfigError(f"The engine {name!r} needs the package {error.name}, which is not installed.") from error


def grey_to_rgb(grey: Grey) -> Rgb:
    """Return the same image with three equal channels."""
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


def blend(base: Rgb, edited: Rgb, region: Grey) -> Rgb:
    """Blend `edited` over `base` by `region` (0..255). Where it is 0, the result is byte-identical to `base`."""
    result = base.copy()
    blend_into(result, base, edited, region)
    return result


def blend_into(result: Rgb, base: Rgb, edited: Rgb, region: Grey) -> None:
    """Write the blend of `edited` over `base` into `result`, where the region is not 0; `result` may be one of them.

    Works on bands of rows: two spots in opposite corners of a photo would otherwise need ten times its memory.
    """
    for top in range(0, len(region), _BAND_ROWS):
        left, first, width, height = cv2.boundingRect(region[top : top + _BAND_ROWS])
        box = slice(top + first, top + first + height), slice(left, left + width)
        weight = region[box][..., None].astype(np.uint16)
        # Rounded integer mean: exact at both ends, 255 gives `edited` and 0 gives `base`. At most 65,152.
        mixed = (base[box] * (255 - weight) + edited[box] * weight + 127) // 255
        result[box] = mixed.astype(np.uint8)
