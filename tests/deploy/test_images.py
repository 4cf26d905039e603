"""Dockerfiles and their lock files, as far as they can be judged without building; `make test-containers` builds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES = ("a100worker", "gateway", "imageutils", "jobmanager", "segmentation")
DOCKERFILES = sorted(ROOT.glob("services/**/*Dockerfile"))
HADOLINT = Path(sys.executable).parent / "hadolint"
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)", re.MULTILINE)


def named(path: Path) -> str:
    """A file as it is called in the repository."""
    return path.relative_to(ROOT).as_posix()


def pins(lock: str) -> dict[str, set[str]]:
    """Which versions of what a lock file lists; it may list several, for several Pythons."""
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall((ROOT / lock).read_text()):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def extra(name: str) -> list[Requirement]:
    """What pyproject.toml asks for in an image: everybody's, the service's own, and the exporter of traces."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [Requirement(text) for text in (*project["dependencies"], *extras[name], *extras["otlp"])]


def closure(wanted: list[Requirement]) -> set[str]:
    """Everything that these need here, by what the installed packages say of themselves."""
    found: set[str] = set()
    waiting = [(canonicalize_name(need.name), frozenset(need.extras)) for need in wanted]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = entry = waiting.pop()
        if entry in seen:
            continue
        seen.add(entry)
        found.add(name)
        for text in metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": each}) for each in ("", *extras)):
                waiting.append((canonicalize_name(need.name), frozenset(need.extras)))
    return found


def test_every_service_has_its_dockerfile() -> None:
    """And the one-shot that fetches weights has one."""
    assert {named(path) for path in DOCKERFILES} == {
        "services/models.Dockerfile",
        *(f"services/{service}/Dockerfile" for service in SERVICES),
    }


def test_segmentation_on_a_gpu_needs_what_it_needs_without() -> None:
    """But for onnxruntime, of which there is one package for each."""
    plain, cuda = ({str(need) for need in extra(name)} for name in ("segmentation", "segmentation-cuda"))

    assert {Requirement(each).name for each in plain - cuda} == {"onnxruntime"}
    assert {Requirement(each).name for each in cuda - plain} == {"onnxruntime-gpu"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_hadolint_finds_nothing(path: Path) -> None:
    """What is ignored is ignored in the file, by name."""
    judged = subprocess.run([HADOLINT, "--format", "json", path], capture_output=True, text=True, check=False)

    assert json.loads(judged.stdout) == []
    assert judged.returncode == 0


def instructions(path: Path) -> Iterator[tuple[str, str]]:
    """Each instruction of a Dockerfile with what follows it, on one line."""
    lines = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in lines.splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, rest.strip()


def stages(path: Path) -> Iterator[dict[str, str]]:
    """The stages of a Dockerfile; of an instruction that comes several times the last counts."""
    stage: dict[str, str] = {}
    for word, rest in instructions(path):
        if word == "FROM" and stage:
            yield stage
            stage = {}
        stage[word] = rest
    yield stage


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_an_image_needs_neither_root_nor_a_shell(path: Path) -> None:
    """Every stage that runs names its user by number and starts its programs directly."""
    running = [stage for stage in stages(path) if "CMD" in stage]

    assert running
    for stage in running:
        assert stage["USER"] == "10001:10001"
        assert stage["CMD"].startswith("[")
        assert stage.get("ENTRYPOINT", "[").startswith("[")
        assert "HEALTHCHECK" not in stage or " CMD [" in stage["HEALTHCHECK"]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_its_own_folder_only(service: str) -> None:
    """What it copies from the repository is shared/ and the service."""
    copied = {
        rest.split()[0]
        for word, rest in instructions(ROOT / f"services/{service}/Dockerfile")
        if word == "COPY" and not rest.startswith("--from")
    }

    assert {source for source in copied if not source.endswith(".lock")} == {
        "shared",
        "services/__init__.py",
        f"services/{service}",
    }


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_installs_its_own_extra_only(service: str) -> None:
    """Its lock file has all that it needs, in the versions that are tested, and nothing more."""
    locked, tested = pins(f"services/{service}/requirements.lock"), pins("requirements-dev.lock")

    assert {name: tested.get(name) for name in locked} == locked, "`make lock` makes them agree."
    assert closure(extra(service)) - set(locked) == set(), "`make lock` adds it."
    here = {name for name in locked if _installed(name)}
    assert here - closure(extra(service)) == set(), "`make lock` takes it out."


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
