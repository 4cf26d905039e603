"""Fixtures for the command that fills volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Return an empty MODEL_DIR."""
    return tmp_path / "volumes"
