"""Check the Dockerfile and its lock files without building; `make test-containers` builds the images."""

from __future__ import annotations

import ast
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

from services.stack.stack import ALLOCATOR, THREADS, all_services
from tests.deploy.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES = ("a100worker", "gateway", "imageutils", "jobmanager", "segmentation")
DOCKERFILE = ROOT / "deploy/Dockerfile"
TARGETS = {*SERVICES, "segmentation-cuda", "a100worker-cuda", "models"}
TOOLS = "tools"  # not a program of ours
HADOLINT = Path(sys.executable).parent / "hadolint"
MISSING = {"gateway": {"cv2"}}  # in functions of shared/image_codec and shared/jpeg that only engines call
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)", re.MULTILINE)


def pins(lock: str) -> dict[str, set[str]]:
    """Return the versions of each package in a lock file; there may be one for each Python."""
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall((ROOT / lock).read_text()):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def extra(name: str) -> list[Requirement]:
    """Return the requirements of an image: the common ones, the service's own, and the exporter of traces."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [Requirement(text) for text in (*project["dependencies"], *extras[name], *extras["otlp"])]


def closure(wanted: list[Requirement]) -> set[str]:
    """Return the transitive dependencies on this platform, from the metadata of the installed packages."""
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


def test_every_service_has_its_target() -> None:
    """The two services with GPU engines have a second one; the weights' fetcher and the operators have their own."""
    assert {name for name, stage in stages().items() if "CMD" in stage} == {*TARGETS, TOOLS}


def test_segmentation_on_a_gpu_needs_what_it_needs_without() -> None:
    """But for onnxruntime, of which there is one package for each."""
    plain, cuda = ({str(need) for need in extra(name)} for name in ("segmentation", "segmentation-cuda"))

    assert {Requirement(each).name for each in plain - cuda} == {"onnxruntime"}
    assert {Requirement(each).name for each in cuda - plain} == {"onnxruntime-gpu"}


def test_hadolint_finds_nothing() -> None:
    """Exceptions stand in the file, by name."""
    judged = subprocess.run([HADOLINT, "--format", "json", DOCKERFILE], capture_output=True, text=True, check=False)

    assert json.loads(judged.stdout) == []
    assert judged.returncode == 0


def instructions() -> Iterator[tuple[str, str]]:
    """Yield each instruction of the Dockerfile with its arguments, on one line."""
    lines = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in lines.splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, rest.strip()


def stages() -> dict[str, dict[str, list[str]]]:
    """Return the instructions of each stage by its name."""
    found: dict[str, dict[str, list[str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            stage = found.setdefault(rest.rpartition(" AS ")[2], {})
        stage.setdefault(word, []).append(rest)
    return found


@pytest.mark.parametrize("target", sorted({*TARGETS, TOOLS}))
def test_an_image_needs_neither_root_nor_a_shell(target: str) -> None:
    """Each image names its user by number and starts its program directly."""
    stage = stages()[target]

    assert stage["USER"] == ["10001:10001"]
    assert stage["CMD"][0].startswith("[")
    assert stage.get("ENTRYPOINT", ["["])[0].startswith("[")


@pytest.mark.parametrize("runtime", ["runtime", "runtime-cuda"])
def test_memory_and_threads_are_those_of_a_laptop(runtime: str) -> None:
    """Both were measured once, and stand beside their reasons in the stack."""
    words = {word for line in stages()[runtime]["ENV"] for word in line.split()}

    assert {f"{name}={value}" for name, value in (ALLOCATOR | THREADS).items()} <= words
    (service,) = [each for each in all_services(1) if each.name == "segmentation"]
    assert stages()["segmentation"]["ENV"] == [service.argv[service.argv.index("env") + 1]]


@pytest.mark.parametrize("runtime", ["runtime", "runtime-cuda"])
def test_a_health_check_needs_no_shell(runtime: str) -> None:
    """Both bases of the services run the probe directly."""
    assert " CMD [" in stages()[runtime]["HEALTHCHECK"][0]


@pytest.mark.parametrize("target", sorted(TARGETS - {"models"}))
def test_an_image_holds_its_own_folder_only(target: str) -> None:
    """A build copies shared/, its own service and its own lock file from the repository."""
    copied = {arguments.split()[0] for arguments in stages()[f"build-{target}"]["COPY"]}

    assert copied == {
        "shared",
        "services/__init__.py",
        f"services/{target.removesuffix('-cuda')}",
        f"locks/requirements-{target}.lock",
    }


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_installs_its_own_extra_only(service: str) -> None:
    """Its lock file has all that it needs, in the versions that are tested, and nothing more."""
    locked, tested = pins(f"locks/requirements-{service}.lock"), pins("locks/requirements-dev.lock")

    assert {name: tested.get(name) for name in locked} == locked, "`make lock` makes them agree."
    assert closure(extra(service)) - set(locked) == set(), "`make lock` adds it."
    here = {name for name in locked if _is_installed(name)}
    assert here - closure(extra(service)) == set(), "`make lock` takes it out."


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize(
    "service", ["gateway", "jobmanager", "imageutils"]
)  # engines import the packages of their image
def test_an_image_has_all_packages_that_its_code_imports(service: str) -> None:
    """Also inside functions: a package that is missing there stops the service in the middle of its work."""
    waiting = list((ROOT / "services" / service).rglob("*.py"))
    seen, packages = set(waiting), set[str]()
    while waiting:
        for module in imported_modules(waiting.pop()):
            path = ROOT / f"{module.replace('.', '/')}.py"
            if path.exists() and path not in seen:
                seen.add(path)
                waiting.append(path)
            packages.add(module.partition(".")[0])
    foreign = packages - sys.stdlib_module_names - {"services", "shared"}
    owners = metadata.packages_distributions()
    installed = set(pins(f"locks/requirements-{service}.lock"))

    missing = {name for name in foreign if not installed & {canonicalize_name(each) for each in owners[name]}}
    assert missing == MISSING.get(service, set())


def imported_modules(path: Path) -> set[str]:
    """Return the names of all modules that a file may import, those for type checks excepted."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found
