"""Chooses a recipe for each task by the settings and by the adapters on the volume."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from services.a100worker.backends.qwen.recipes import adapter, stock
from shared.errors import ConfigError
from shared.messages import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.a100worker.backends.qwen.recipes.recipe import Recipe
    from shared.volumes import AdapterFacts

RECIPES: tuple[Recipe, ...] = (
    stock.REMOVAL,
    stock.TINTED_REMOVAL,
    stock.INSERTION,
    stock.WHITE_BALANCE,
    adapter.REMOVAL,
    adapter.BOXED_REMOVAL,
    adapter.TINTED_REMOVAL,
    adapter.PLAIN_REMOVAL,
    adapter.INSERTION,
    adapter.WHITE_BALANCE,
)
AUTO = "auto"


def choose(adapters: Mapping[str, AdapterFacts], removal: str = AUTO) -> dict[Task, Recipe]:
    """Return the recipe of each task that has recipes: its adapter's if the volume has an adapter, else the stock one.

    `removal` names another recipe for removals. Raises ConfigError for an unknown name, or one that needs an adapter
    which the volume lacks.
    """
    wanted = {Task.REMOVAL: removal}
    tasks = [task for task in Task if any(recipe.task is task for recipe in RECIPES)]  # an engine may lack a task
    return {task: _choose(task, adapters.get(task.value), wanted.get(task, AUTO)) for task in tasks}


def find(task: Task, name: str) -> Recipe:
    """Return a task's recipe. Raises ConfigError if no recipe has that name."""
    known = {recipe.name: recipe for recipe in RECIPES if recipe.task is task}
    if name not in known:
        raise ConfigError(f"There is no recipe {name!r} for {task.value}; known are {', '.join(known)}.")
    return known[name]


def _choose(task: Task, facts: AdapterFacts | None, wanted: str) -> Recipe:
    if wanted != AUTO:
        recipe = find(task, wanted)
        if recipe.adapter and facts is None:
            raise ConfigError(
                f"The recipe {wanted!r} needs an adapter for {task.value}, and the volume has none; "
                f"add one with `python -m services.models add`, or set A100WORKER_QWEN_REMOVAL_RECIPE=auto."
            )
        return recipe
    if facts is None:
        return find(task, "stock")
    recipe, words = find(task, facts.recipe or "adapter"), facts.words
    return recipe if words is None else replace(recipe, words=words, frame=f"{words} {{prompt}}")
