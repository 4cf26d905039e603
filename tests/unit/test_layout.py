"""Rules for the whole tree: the places of modules and the direction of imports.

Each rule has a small tree that breaks it, as in test_architecture.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.unit.source import Module, read_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_MODULES = 15
MOST_TEST_MODULES = 29
UNLIMITED = {"tests/unit/shared"}  # mirrors shared/, which is one folder
TWINS = (
    "schemas",
    "submissions",
    "job_views",
    "events",
    "mask_requests",
    "routes/images",
    "routes/masks",
    "routes/system",
)
GATEWAY_RANKS = {  # a module imports only from its own rank and from lower ones
    "__main__": 7, "v1/__main__": 7,
    "service": 6,
    "app": 5, "background": 5, "keys": 5, "api/routes": 5, "v1/routes": 5,
    "api": 4, "v1": 4, "deps": 4,
    "core": 3, "decoding": 3, "webhooks": 3,
    "access": 2, "http": 2, "limits": 2, "error_responses": 2,
    "settings": 1,
}  # fmt: skip
RANKS = {"__main__": 7, "service": 6, "settings": 1}
_OTHERS = 4


# --- the laws -----------------------------------------------------------------------------------------------------


def full_folders(modules: list[Module]) -> Iterator[str]:
    for folder, count in count_modules(modules).items():
        if f"{folder}/".startswith(("services/", "tests/integration/")) and count > MOST_MODULES:
            yield folder


def full_test_folders(modules: list[Module]) -> Iterator[str]:
    for folder, count in count_modules(modules).items():
        if f"{folder}/".startswith("tests/") and folder not in UNLIMITED and count > MOST_TEST_MODULES:
            yield folder


def upward_imports(modules: list[Module]) -> Iterator[str]:
    for module, imported in edges(modules):
        service = module.path.split("/")[1]
        if imported.path.startswith(f"services/{service}/") and rank(module, service) < rank(imported, service):
            yield f"{module.name} -> {imported.name}"


def separated_twins(modules: list[Module]) -> Iterator[str]:
    paths = {module.path for module in modules}
    for twin in TWINS:
        for folder in ("api", "v1"):
            if f"services/gateway/{folder}/{twin}.py" not in paths:
                yield f"services/gateway/{folder}/{twin}.py is missing"
    for module, imported in edges(modules):
        folders = {path.split("/")[2] for path in (module.path, imported.path) if path.startswith("services/gateway/")}
        if folders == {"api", "v1"}:
            yield f"{module.name} -> {imported.name}"


def circles(modules: list[Module]) -> Iterator[str]:
    targets: dict[str, set[str]] = defaultdict(set)
    for module, imported in edges(modules):
        targets[module.name].add(imported.name)
    reached = {module.name: reach(module.name, targets) for module in modules}
    mutual = {name: [other for other in sorted(found) if name in reached[other]] for name, found in reached.items()}
    yield from {" <-> ".join(circle) for name, circle in mutual.items() if name in circle}


# --- reading ------------------------------------------------------------------------------------------------------


def count_modules(modules: list[Module]) -> Counter[str]:
    """Count the modules of each folder."""
    return Counter(module.path.rpartition("/")[0] for module in modules if not module.path.endswith("/__init__.py"))


def edges(modules: list[Module]) -> Iterator[tuple[Module, Module]]:
    """Every import of one of the product's modules by another, also inside functions and under TYPE_CHECKING."""
    product = [module for module in modules if not module.in_tests]
    known = {module.name: module for module in product}
    for module in product:
        for _, name in module.imports():
            imported = known.get(name) or known.get(name.rpartition(".")[0])
            if imported is not None and imported is not module:
                yield module, imported


def reach(start: str, targets: dict[str, set[str]]) -> set[str]:
    """Return all modules that `start` imports, directly or through others."""
    found: set[str] = set()
    left = list(targets[start])
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            left += targets[name]
    return found


def rank(module: Module, service: str) -> int:
    ranks = GATEWAY_RANKS if service == "gateway" else RANKS
    parts = module.path.removesuffix(".py").split("/")[2:]
    found = [ranks[place] for place in ("/".join(parts[:2]), parts[0]) if place in ranks]
    return found[0] if found else _OTHERS


# --- the tests ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Law:
    """A law, how to find its breaches, and a tree that breaks it."""

    sentence: str
    find: Callable[[list[Module]], Iterator[str]]
    breach: list[Module]


LAWS = [
    Law("No folder under services/ or tests/integration/ holds more than 15 modules",
        full_folders, [Module(f"services/gateway/core/m{number}.py", "") for number in range(16)]),
    Law("No folder under tests/ holds more than 29 modules",
        full_test_folders, [Module(f"tests/chaos/m{number}.py", "") for number in range(30)]),
    Law("No module imports from a higher rank of its service",
        upward_imports, [Module("services/jobmanager/job/x.py", "from services.jobmanager import service"),
                         Module("services/jobmanager/service.py", "")]),
    Law("api/ and v1/ have the same files for the same duty and do not import each other",
        separated_twins, [Module(f"services/gateway/{folder}/{twin}.py", text) for twin in TWINS for folder, text in
                          (("api", ""), ("v1", "from services.gateway.api import schemas"))]),
    Law("No modules import each other in a circle, not even for types",
        circles, [Module("shared/a.py", "if TYPE_CHECKING:\n    from shared.b import B"),
                  Module("shared/b.py", "from shared import c"), Module("shared/c.py", "import shared.a")]),
]  # fmt: skip


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    """Read the source once for all laws."""
    return read_modules("shared", "services", "deploy", "tests")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.find.__name__)
def test_the_tree_keeps_the_law(law: Law, modules: list[Module]) -> None:
    """No module breaks it."""
    assert not list(law.find(modules)), law.sentence


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.find.__name__)
def test_the_law_finds_its_breach(law: Law) -> None:
    """The counter-example does not pass, so a green law means something."""
    assert list(law.find(law.breach))
