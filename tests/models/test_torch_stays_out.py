"""Where torch is installed, only a service with an engine that needs it imports it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "ultralytics"}


@pytest.mark.parametrize("service", ["gateway", "jobmanager", "imageutils", "segmentation", "a100worker"])
def test_a_service_is_imported_without_torch(service: str) -> None:
    """It takes seconds and 500 MB."""
    code = f"import services.{service}.service, sys; print(*sorted(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert not HEAVY & set(ended.stdout.split())
