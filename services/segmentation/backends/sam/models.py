"""Which of the published Segment Anything networks is in MODEL_DIR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.volumes import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

MODELS = ("sam", "mobile-sam")
"""Folders of MODEL_DIR, the better network first."""


def find_model(model_dir: Path) -> str | None:
    """Return the folder of the first network that was pulled, or None."""
    return next((name for name in MODELS if (model_dir / name / MANIFEST).is_file()), None)
