"""One command gives all images of the overlays a registry and a version."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from deploy.release import main, set_release
from tests.deploy.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.deploy.conftest import Manifest

IMAGES = {"gateway", "segmentation", "imageutils", "jobmanager", "a100worker", "models"}


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """Return a copy of the manifests."""
    return Path(shutil.copytree(ROOT / "deploy/kubernetes", tmp_path / "kubernetes"))


def images_of(kustomize: Path, folder: Path) -> tuple[set[str], list[str]]:
    """Return the images of an overlay's pods, and the names of its jobs."""
    built = subprocess.run([kustomize, "build", folder], capture_output=True, text=True, check=True)
    found = list(yaml.safe_load_all(built.stdout))
    pods = [each["spec"]["template"]["spec"] for each in found if each["kind"] in {"Deployment", "Job"}]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    return images, [each["metadata"]["name"] for each in found if each["kind"] == "Job"]


def tag_of(name: str, overlay: str, version: str) -> str:
    """Return the tag of an image in an overlay."""
    return f"{name}:{version}{'-cuda' if overlay == 'gpu' and name in {'segmentation', 'a100worker'} else ''}"


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "single-node"])
def test_a_release_is_set_by_one_command(kustomize: Path, manifests: Path, overlay: str) -> None:
    """Also with a registry on a port, and twice; the job has a new name, because a job cannot be changed."""
    for registry, version in (("registry.example.org/am", "0.9.0"), ("registry.example.org:5000/am", "1.0.0-rc.1")):
        main([registry, version, "--overlays", str(manifests / "overlays")])
    images, jobs = images_of(kustomize, manifests / "overlays" / overlay)

    assert images == {f"registry.example.org:5000/am/{tag_of(name, overlay, '1.0.0-rc.1')}" for name in IMAGES}
    assert jobs == ["models-1.0.0-rc.1"]


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "single-node"])
def test_images_are_pinned_by_their_digests(kustomize: Path, manifests: Path, overlay: str) -> None:
    """A tag can be moved in the registry, a digest cannot; the next release without digests drops them."""
    tags = sorted({f"reg.io/am/{tag_of(name, each, '1.0.0')}" for name in IMAGES for each in ("cpu", "gpu")})
    digests = {tag: f"sha256:{number:064x}" for number, tag in enumerate(tags)}
    file = manifests / "digests"
    file.write_text("".join(f"{tag} {tag.rpartition(':')[0]}@{digest}\n" for tag, digest in digests.items()))
    main(["reg.io/am", "1.0.0", "--overlays", str(manifests / "overlays"), "--digests", str(file)])
    pinned, _ = images_of(kustomize, manifests / "overlays" / overlay)
    main(["reg.io/am", "1.0.1", "--overlays", str(manifests / "overlays")])
    free, _ = images_of(kustomize, manifests / "overlays" / overlay)

    assert pinned == {
        f"{tag}@{digests[tag]}" for tag in (f"reg.io/am/{tag_of(name, overlay, '1.0.0')}" for name in IMAGES)
    }
    assert free == {f"reg.io/am/{tag_of(name, overlay, '1.0.1')}" for name in IMAGES}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("reg.io/am/gateway:1.0.0 reg.io/am/gateway@sha256:" + "a" * 64, "has no digest of reg.io/am/"),
        ("reg.io/am/gateway:1.0.0 sha256:short", "does not name an image and its digest"),
        (None, "No such file"),
    ],
)
def test_incomplete_digests_change_nothing(
    manifests: Path, capsys: pytest.CaptureFixture[str], lines: str | None, problem: str
) -> None:
    """Neither of the overlays is half of the new release."""
    files = sorted((manifests / "overlays").glob("*/kustomization.yaml"))
    before = [file.read_text() for file in files]
    if lines is not None:
        (manifests / "digests").write_text(lines)

    with pytest.raises(SystemExit):
        main(["reg.io/am", "1.0.0", "--overlays", str(manifests / "overlays"), "--digests", str(manifests / "digests")])
    assert problem in capsys.readouterr().err
    assert [file.read_text() for file in files] == before


@pytest.mark.parametrize(
    ("registry", "version"), [("", "1.0"), ("a b", "1.0"), ("reg.io/am", "1_0"), ("reg.io/am", "")]
)
def test_a_wrong_release_is_refused(registry: str, version: str) -> None:
    """A name that Kubernetes would refuse is refused before."""
    with pytest.raises(ValueError, match=r"is not a registry|cannot be in the name"):
        set_release("images:\n", registry, version)


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_the_job_is_named_after_this_version_and_stays(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """A job that is deleted when it has ended is run again by a GitOps controller."""
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    (job,) = [each for each in built(overlay) if each["kind"] == "Job"]

    assert version is not None
    assert job["metadata"]["name"] == f"models-{version[1]}"
    assert "ttlSecondsAfterFinished" not in job["spec"]
