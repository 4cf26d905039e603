"""The kustomize components that an overlay may add."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.deploy.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

COMPONENT = "components: [../../components/prometheus-operator]"


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_the_prometheus_operator_scrapes_every_service(kustomize: Path, tmp_path: Path, overlay: str) -> None:
    """As its file says: by a port that each pod has, with the labels that alerts and dashboard read."""
    manifests = shutil.copytree(ROOT / "deploy/kubernetes", tmp_path / "kubernetes")
    component = manifests / "components/prometheus-operator/kustomization.yaml"
    file = manifests / "overlays" / overlay / "kustomization.yaml"
    assert COMPONENT in component.read_text()
    file.write_text(f"{file.read_text()}{COMPONENT}\n")
    built = subprocess.run([kustomize, "build", file.parent], capture_output=True, text=True, check=True)
    found = list(yaml.safe_load_all(built.stdout))

    (monitor,) = [each for each in found if each["kind"] == "PodMonitor"]
    (choice,) = monitor["spec"]["selector"]["matchExpressions"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    pods = {
        each["spec"]["template"]["metadata"]["labels"][choice["key"]]: each["spec"]["template"]
        for each in found
        if each["kind"] == "Deployment"
    }
    assert set(choice["values"]) == set(pods)
    for pod in pods.values():
        (container,) = pod["spec"]["containers"]
        assert endpoint["port"] in {port["name"] for port in container["ports"]}
    assert [each["targetLabel"] for each in endpoint["relabelings"]] == ["job", "service"]
    assert monitor["metadata"]["namespace"] == "artmancer"
