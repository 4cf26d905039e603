"""Load the configured engines and choose one for each request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.segmentation import backend
from services.segmentation.backends.sam.models import find_model
from shared.errors import ConfigError

if TYPE_CHECKING:
    from services.segmentation.backend import Engine
    from services.segmentation.settings import Settings


class Engines:
    """The engines of SEGMENTATION_BACKENDS, in that order. The first is the default.

    `auto` is Segment Anything where its files are, and GrabCut.
    """

    def __init__(self, settings: Settings) -> None:
        """Load all engines, which may take seconds. Raises ConfigError."""
        names = [name.strip() for name in settings.backends.split(",") if name.strip()]
        if names == ["auto"]:
            names = ["grabcut"] if find_model(settings.model_dir) is None else ["sam", "grabcut"]
        if not names:
            raise ConfigError("The setting SEGMENTATION_BACKENDS names no engine.")
        self._engines = [backend.load(name, settings) for name in names]

    def choose(self, wanted: str) -> tuple[Engine, str | None]:
        """Return the engine for a request, and a remark for the user about the choice or the engine."""
        by_name = {engine.name: engine for engine in self._engines}
        default = self._engines[0]
        engine = by_name.get(wanted, default)
        notes = [engine.note] if engine.note else []
        if wanted not in {"default", *by_name}:
            notes.insert(0, f"The engine {wanted} is not loaded, so {default.name} was used.")
        return engine, " ".join(notes) or None

    def describe(self) -> dict[str, str]:
        """Return the names and remarks of the loaded engines, for logs and health."""
        notes = {f"note.{engine.name}": engine.note for engine in self._engines if engine.note}
        return {"engines": ", ".join(engine.name for engine in self._engines), **notes}
