"""One command gives all images of the overlays a registry and a version."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from deploy.release import set_release
from tests.deploy.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.deploy.conftest import Manifest

IMAGES = {"gateway", "segmentation", "imageutils", "jobmanager", "a100worker", "models"}


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_a_release_is_set_by_one_command(kustomize: Path, tmp_path: Path, overlay: str) -> None:
    """Also with a registry on a port, and twice; the job has a new name, because a job cannot be changed."""
    manifests = shutil.copytree(ROOT / "deploy/kubernetes", tmp_path / "kubernetes")
    folder = manifests / "overlays" / overlay
    for registry, version in (("registry.example.org/am", "0.9.0"), ("registry.example.org:5000/am", "1.0.0-rc.1")):
        set_release(folder, registry, version)
    built = subprocess.run([kustomize, "build", folder], capture_output=True, text=True, check=True)
    found = list(yaml.safe_load_all(built.stdout))
    pods = [each["spec"]["template"]["spec"] for each in found if each["kind"] in {"Deployment", "Job"}]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    on_gpus = {"segmentation", "a100worker"} if overlay == "gpu" else set()

    assert images == {
        f"registry.example.org:5000/am/{name}:1.0.0-rc.1{'-cuda' if name in on_gpus else ''}" for name in IMAGES
    }
    assert [each["metadata"]["name"] for each in found if each["kind"] == "Job"] == ["models-1.0.0-rc.1"]


@pytest.mark.parametrize(
    ("registry", "version"), [("", "1.0"), ("a b", "1.0"), ("reg.io/am", "1_0"), ("reg.io/am", "")]
)
def test_a_wrong_release_changes_nothing(tmp_path: Path, registry: str, version: str) -> None:
    """A name that Kubernetes would refuse is refused before."""
    (tmp_path / "kustomization.yaml").write_text("images:\n")

    with pytest.raises(ValueError, match=r"is not a registry|cannot be in the name"):
        set_release(tmp_path, registry, version)
    assert (tmp_path / "kustomization.yaml").read_text() == "images:\n"


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_the_job_is_named_after_this_version_and_stays(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """A job that is deleted when it has ended is run again by a GitOps controller."""
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    (job,) = [each for each in built(overlay) if each["kind"] == "Job"]

    assert version is not None
    assert job["metadata"]["name"] == f"models-{version[1]}"
    assert "ttlSecondsAfterFinished" not in job["spec"]
