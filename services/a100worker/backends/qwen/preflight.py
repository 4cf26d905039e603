"""Checks the checkpoint, its adapters and the settings before torch is imported, which takes ten seconds."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.a100worker.backends.qwen import checkpoint
from services.a100worker.backends.qwen.adapters import files
from services.a100worker.backends.qwen.recipes.choice import choose
from shared.volumes import Volume

if TYPE_CHECKING:
    from services.a100worker.backends.qwen.adapters.files import Adapter
    from services.a100worker.backends.qwen.checkpoint import Checkpoint
    from services.a100worker.backends.qwen.recipes.recipe import Recipe
    from services.a100worker.settings import Settings
    from shared.messages import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preflight:
    """A volume that can be loaded."""

    settings: Settings
    """The worker's, with `auto` of QWEN_LIGHTNING replaced by the steps that the volume has an adapter for."""
    checkpoint: Checkpoint
    adapters: list[Adapter]
    recipes: dict[Task, Recipe]

    @property
    def recipe_names(self) -> dict[str, str]:
        """The name of each task's recipe; `stock` if the volume has no adapter for the task."""
        return {task.value: recipe.name for task, recipe in self.recipes.items()}


def look(settings: Settings) -> Preflight:
    """Return the content of MODEL_DIR/qwen. Raises ConfigError for the first missing or wrong file or setting."""
    volume = Volume(settings.model_dir, checkpoint.MODEL)
    found = checkpoint.inspect(volume)
    lightning = files.lightning_steps(volume, settings.qwen_lightning)
    adapters = files.find(volume, found, lightning=lightning)
    recipes = choose({adapter.name: adapter.facts for adapter in adapters}, settings.qwen_removal_recipe)
    ready = Preflight(settings.model_copy(update={"qwen_lightning": lightning}), found, adapters, recipes)
    names = [adapter.name for adapter in adapters]
    facts = {"base": found.base, "adapters": names, "recipes": ready.recipe_names, "lightning": lightning}
    log.info("qwen.volume", extra=facts)
    return ready
