"""Opens the engine: checks the volume, then imports the libraries, which takes longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.a100worker.backends.qwen.preflight import look

if TYPE_CHECKING:
    from services.a100worker.backend import Engine, PhaseReporter
    from services.a100worker.settings import Settings


def open_engine(settings: Settings, loading: PhaseReporter) -> Engine:
    """Load the engine. Raises ConfigError."""
    look(settings)
    from services.a100worker.backends.qwen.engine import Qwen  # noqa: PLC0415 (ten seconds of imports)

    return Qwen(settings, loading)
