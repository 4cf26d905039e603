"""Recipes for weights with an adapter: the images, their order and the words of the adapters' training."""

from __future__ import annotations

from services.a100worker.backends.qwen.recipes.recipe import Recipe, View
from shared.messages import Task

REMOVAL = Recipe(
    "adapter", Task.REMOVAL, (View.HOLLOW, View.MASK, View.FILLED), "remove object", "{prompt}", adapter=True
)
INSERTION = Recipe(
    "adapter", Task.INSERTION, (View.REFERENCE, View.MASK, View.HOLLOW), "insert object", "{prompt}", adapter=True
)
WHITE_BALANCE = Recipe(
    "adapter", Task.WHITE_BALANCE, (View.PHOTO, View.EDGES), "white balance this image", "{prompt}", adapter=True
)

# For adapters that others publish: https://huggingface.co/prithivMLmods/QIE-2511-Object-Remover-Bbox and relatives.
_BOXED = "Remove the object inside the red box, and the box."
BOXED_REMOVAL = Recipe("box", Task.REMOVAL, (View.BOXED,), _BOXED, f"{_BOXED} {{prompt}}", adapter=True)
TINTED_REMOVAL = Recipe(
    "tint",
    Task.REMOVAL,
    (View.TINTED,),
    "Remove the object that is tinted in magenta.",
    "Remove the object that is tinted in magenta. {prompt}",
    adapter=True,
)
PLAIN_REMOVAL = Recipe("words", Task.REMOVAL, (View.PHOTO,), "Remove the object.", "{prompt}", adapter=True)
