"""Checks the volume before the ten seconds that importing torch takes: the checkpoint, its adapters, the settings."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.a100worker.backends.qwen import checkpoint
from services.a100worker.backends.qwen.adapters import files
from shared.messages import Task
from shared.volumes import Volume

if TYPE_CHECKING:
    from services.a100worker.backends.qwen.adapters.files import Adapter
    from services.a100worker.backends.qwen.checkpoint import Checkpoint
    from services.a100worker.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preflight:
    """A volume that can be loaded."""

    settings: Settings
    """The worker's, with `auto` of QWEN_LIGHTNING replaced by the steps that the volume has an adapter for."""
    checkpoint: Checkpoint
    adapters: list[Adapter]

    @property
    def stock_tasks(self) -> list[Task]:
        """The tasks without an adapter: the model does them as it was published."""
        names = {adapter.name for adapter in self.adapters}
        return [task for task in Task if task.value not in names]


def look(settings: Settings) -> Preflight:
    """Return the content of MODEL_DIR/qwen. Raises ConfigError with the first thing that is missing or wrong."""
    if settings.qwen_bare:
        log.warning("qwen.setting-not-needed", extra={"setting": "A100WORKER_QWEN_BARE"})
    volume = Volume(settings.model_dir, checkpoint.MODEL)
    found = checkpoint.inspect(volume)
    lightning = files.lightning_steps(volume, settings.qwen_lightning)
    adapters = files.find(volume, found, lightning=lightning)
    ready = Preflight(settings.model_copy(update={"qwen_lightning": lightning}), found, adapters)
    stock, names = [task.value for task in ready.stock_tasks], [adapter.name for adapter in adapters]
    log.info("qwen.volume", extra={"base": found.base, "adapters": names, "stock": stock, "lightning": lightning})
    return ready
