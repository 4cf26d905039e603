"""Recipes for the published weights, which were trained on natural images and instructions, not on masks or holes.

Sources: https://github.com/QwenLM/Qwen-Image/issues/160 (a mask as an image does not steer the edit),
https://github.com/nunchaku-ai/nunchaku/discussions/806 (a place marked in a colour that the words name does).
"""

from __future__ import annotations

from services.a100worker.backends.qwen.recipes.recipe import Recipe, View
from shared.messages import Task

_KEEP = "Keep everything else in the picture exactly as it is: objects, positions, colours, light and framing."

_FILLED = (
    "One area of this photo was filled in roughly. Repaint that area as a natural continuation of what surrounds it, "
    "with matching texture, light, perspective, focus and grain. Add no new object. " + _KEEP
)
_TINTED = (
    "Remove the object that is tinted in magenta, together with its shadow and its reflection. Fill its place with a "
    "natural continuation of the background, and leave no magenta behind. " + _KEEP
)
_INSERTED = (
    "Place the object of Picture 2 into Picture 1, where the magenta area is. Fit the object to that area. Match the "
    "light, the perspective, the focus and the grain of Picture 1, and add a contact shadow where the object stands. "
    "Leave no magenta behind. " + _KEEP
)
_BALANCED = (
    "Correct the white balance of this photo: remove the colour cast, so that white and grey surfaces look neutral and "
    "skin looks natural. Change only the colours. Keep all shapes, objects, positions, details and the framing "
    "exactly as they are."
)

REMOVAL = Recipe("stock", Task.REMOVAL, (View.FILLED,), _FILLED, f"{_FILLED} {{prompt}}", adapter=False)
TINTED_REMOVAL = Recipe("stock-tint", Task.REMOVAL, (View.TINTED,), _TINTED, f"{_TINTED} {{prompt}}", adapter=False)
INSERTION = Recipe(
    "stock", Task.INSERTION, (View.MARKED, View.OBJECT), _INSERTED, f"{_INSERTED} {{prompt}}", adapter=False
)
WHITE_BALANCE = Recipe("stock", Task.WHITE_BALANCE, (View.PHOTO,), _BALANCED, f"{_BALANCED} {{prompt}}", adapter=False)
