"""The way into the engine: what it needs is looked for before the ten seconds that importing its libraries takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.a100worker.backends.qwen import checkpoint
from services.a100worker.backends.qwen.adapters import files
from shared.volumes import Volume

if TYPE_CHECKING:
    from services.a100worker.backend import Engine, PhaseReporter
    from services.a100worker.backends.qwen.adapters.files import Adapter
    from services.a100worker.backends.qwen.checkpoint import Checkpoint
    from services.a100worker.settings import Settings


def look(settings: Settings) -> tuple[Checkpoint, list[Adapter]]:
    """Return what lies in MODEL_DIR/qwen. Raises ConfigError with the first thing that is missing or wrong."""
    volume = Volume(settings.model_dir, checkpoint.MODEL)
    found = checkpoint.inspect(volume)
    lightning, bare = settings.qwen_lightning, settings.qwen_bare
    return found, files.find(volume, found.blocks, lightning=lightning, bare=bare)


def open_engine(settings: Settings, loading: PhaseReporter) -> Engine:
    """Load the engine. Raises ConfigError."""
    look(settings)
    from services.a100worker.backends.qwen.engine import Qwen  # noqa: PLC0415 (not before there is something to load)

    return Qwen(settings, loading)
