"""One version in every place that names it: code, package, images and the deployment guide."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from shared import VERSION

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"


def test_the_package_has_this_version() -> None:
    """The wheel and the running code must agree."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_the_gateway_reports_this_version() -> None:
    """The API documentation shows the version of the code that runs."""
    source = (ROOT / "services" / "gateway" / "app.py").read_text()

    assert "version=VERSION" in source
    assert "from shared import VERSION" in source


def test_the_deployments_use_the_images_of_this_version() -> None:
    """Every image tag in the Kubernetes overlays and in the deployment guide starts with it."""
    files = [*KUBERNETES.rglob("*.yaml"), ROOT / "docs" / "deploy.md"]
    tags = [tag for file in files for tag in re.findall(r"(?:newTag: |VERSION=)(\d[\w.]*)", file.read_text())]

    assert tags
    assert set(tags) == {VERSION}


def test_the_client_library_keeps_the_names_that_are_overridden() -> None:
    """shared/client.py overrides private methods of nats-py 2.16, so a newer minor version must not be installed."""
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]

    assert "nats-py[nkeys]~=2.16.0" in requirements
