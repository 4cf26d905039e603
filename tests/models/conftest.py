"""Tiny models for the GPU engines, made once in a session, in code; nothing is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def qwen_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MODEL_DIR with a tiny checkpoint of Qwen-Image-Edit-2509 and its three adapters. Copy it before you harm it."""
    from tests.models import tiny_qwen  # noqa: PLC0415 (ten seconds of imports, for those who ask)

    models = tmp_path_factory.mktemp("models")
    tiny_qwen.build(models / "qwen")
    return models


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder; loading a library may take long, on a busy machine."""
    for item in items:
        if "/tests/models/" in item.path.as_posix():
            item.add_marker(pytest.mark.models)
            item.add_marker(pytest.mark.timeout(240))
