"""Provide kustomize and the objects that it renders from each overlay."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
Manifest = dict[str, Any]


@pytest.fixture(scope="session")
def kustomize() -> Path:
    """Where kustomize is; skipped without one, but not in CI where Go could build it."""
    found = shutil.which("kustomize", path=f"{ROOT / '.tools/bin'}:{os.environ['PATH']}")
    if found is None and os.environ.get("CI") and shutil.which("go"):
        pytest.fail("kustomize is missing: `make tools` builds it.")
    if found is None:
        pytest.skip("There is no kustomize; where Go is installed, `make tools` builds it.")
    return Path(found)


@pytest.fixture(scope="session")
def crds() -> Path:
    """Where the schemas of foreign types are; skipped without them, but not in CI where Go could fetch them."""
    folder = ROOT / ".tools/crds"
    if not folder.is_dir() and os.environ.get("CI") and shutil.which("go"):
        pytest.fail("The schemas are missing: `make tools` fetches them.")
    if not folder.is_dir():
        pytest.skip("There are no schemas; where Go is installed, `make tools` fetches them.")
    return folder


@pytest.fixture(scope="session")
def built(kustomize: Path) -> Callable[[str], list[Manifest]]:
    """Return an overlay's manifests as kubectl would apply them."""

    @functools.cache
    def build(overlay: str) -> list[Manifest]:
        folder = ROOT / "deploy/kubernetes/overlays" / overlay
        ended = subprocess.run([kustomize, "build", folder], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return list(yaml.safe_load_all(ended.stdout))

    return build
