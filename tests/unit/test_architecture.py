"""Checks of the source text for decisions that reviewers would otherwise have to remember.

Each rule has a piece of code that breaks it. If a rule accepts its own counter-example, the test fails.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from tests.unit.source import ROOT, SERVICES, Module, starts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# --- the exceptions that the decisions allow, by name, with the reason --------------------------------------------

LONGER_MODULES = {
    "shared/messages.py": 600,  # all messages between services, to be read in one go
}
LONGER_FUNCTIONS: dict[str, int] = {}
SHARED = {"subjects", "messages", "jobs", "topology", "settings", "client", "connection", "bus", "deliveries", "rpc",
          "image_store", "object_buckets", "derived", "tiles", "marks", "tombstones",
          "image_codec", "errors", "telemetry", "lifecycle", "probes", "listener", "tracing", "metrics",
          "volumes", "safetensors_header", "png", "job_events", "declaring", "tasks", "deadlines",
          "versions", "reading", "memory_budget", "image_formats", "file_structure", "image_source", "jpeg",
          "png_chunks", "isobmff", "orientation", "colour_tables", "image_memory", "colour", "icc",
          "transparency", "foreground", "xmp", "source_types", "deep_pixels", "image_notes",
          "webhooks", "webhook_subjects", "webhook_messages"}  # fmt: skip
NATS_ADAPTERS = {
    f"shared/{name}.py" for name in ("client", "connection", "bus", "deliveries", "rpc", "topology", "declaring")
}
SUBJECT_OWNERS = {"shared/subjects.py", "shared/webhook_subjects.py"}
ENVIRONMENT_READERS = {
    "services/__init__.py",  # onnxruntime reads its log level nowhere else
    "services/stack/disk.py",  # the launcher carries no settings, and a size that the user has set stands
    "services/stack/process.py",  # a child gets this process's environment and more
    "shared/probes.py",  # a command of its own that must start in no time: PROBE_PORT is its only setting
    "services/cli/arguments.py",  # a command of its own: its two variables are defaults of its arguments
    "services/mcp/arguments.py",  # as that one
    "services/models/__main__.py",  # a command of its own: MODEL_DIR is its only setting
    "services/segmentation/backends/fastsam/engine.py",  # ultralytics has no other switch to stay off the network
}
SIGNAL_OWNERS = {
    "shared/lifecycle.py",
    "services/__main__.py",  # the launcher is no service, and should not carry pydantic
    "services/a100worker/backends/patchmatch/child.py",  # a helper process leaves Ctrl-C to its owner
    "services/a100worker/backends/lama/child.py",  # as that one
}
TASK_OWNERS = {
    "shared/bus.py",  # the connection outlives the call that asked for it
    "shared/listener.py",  # one task per connection, cut when the listener closes
    "shared/lifecycle.py",  # the one task per process that all others hang on
    "shared/rpc.py",  # one task per request, drained by `serve`
    "services/a100worker/job/attempt.py",  # the engine's thread, which is abandoned if the engine hangs
    "services/a100worker/job/runner.py",  # ends with its job, whichever way that ends
}

# --- the rules ----------------------------------------------------------------------------------------------------


def long_modules(module: Module) -> Iterator[tuple[int, str]]:
    lines = module.text.count("\n")
    if lines > LONGER_MODULES.get(module.path, 400 if module.in_tests else 350):
        yield 1, f"{lines} lines"


def long_functions(module: Module) -> Iterator[tuple[int, str]]:
    for function in module.functions():
        lines = (function.end_lineno or 0) - function.lineno + 1
        if lines > LONGER_FUNCTIONS.get(f"{module.path}:{function.name}", 50):
            yield function.lineno, f"{function.name} with {lines} lines"


def vague_names(module: Module) -> Iterator[tuple[int, str]]:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "base"}
    if found := vague & set(module.path.removesuffix(".py").split("/")):
        yield 1, found.pop()


def foreign_imports(module: Module) -> Iterator[tuple[int, str]]:
    for line, name in module.imports():
        upwards = module.path.startswith("shared/") and starts(name, "services", "tests")
        sideways = module.service and starts(name, "services") and not starts(name, f"services.{module.service}")
        launcher = module.path.startswith("services/") and not module.service
        inwards = launcher and starts(name, *(f"services.{service}" for service in SERVICES))
        if upwards or sideways or inwards:
            yield line, name


def vendor_imports(module: Module) -> Iterator[tuple[int, str]]:
    heavy = ("torch", "torchvision", "diffusers", "ultralytics", "transformers", "accelerate", "peft")
    for line, name in module.imports():
        if starts(name, "nats") and module.path not in NATS_ADAPTERS:
            yield line, name
        if starts(name, *heavy) and "/backends/" not in module.path:
            yield line, name


def subject_literals(module: Module) -> Iterator[tuple[int, str]]:
    own = re.compile(r"(job\.(submit|q|ev|dlq)|live\.(ev|q|webhook)|webhook\.(q|log)|svc|ctl)\.|\$(KV|O)\.")
    brokers = re.compile(r"\$JS\.")
    docstrings = module.docstrings()
    for node in module.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            foreign = own.match(node.value) and module.path not in SUBJECT_OWNERS
            if foreign or (brokers.match(node.value) and module.path not in SUBJECT_OWNERS | NATS_ADAPTERS):
                yield node.lineno, node.value


def environment(module: Module) -> Iterator[tuple[int, str]]:
    if module.path not in ENVIRONMENT_READERS:
        for node in module.nodes:
            if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv", "os.putenv"}:
                yield node.lineno, ast.unparse(node)


def settings_at_import(module: Module) -> Iterator[tuple[int, str]]:
    for statement in module.tree.body:
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If):
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Settings"):
                    yield node.lineno, ast.unparse(node.func)


def loose_tasks(module: Module) -> Iterator[tuple[int, str]]:
    for call, name in module.calls():
        if name.rpartition(".")[2] in {"create_task", "ensure_future"}:
            named = any(keyword.arg == "name" for keyword in call.keywords)
            grouped = not re.match(r"asyncio|.*loop", name)
            if not named or not (grouped or module.path in TASK_OWNERS):
                yield call.lineno, name


def signal_handlers(module: Module) -> Iterator[tuple[int, str]]:
    for call, name in module.calls():
        handles = name == "signal.signal" or name.endswith("add_signal_handler")
        if handles and module.path not in SIGNAL_OWNERS:
            yield call.lineno, name


def patching(module: Module) -> Iterator[tuple[int, str]]:
    yield from ((line, name) for line, name in module.imports() if starts(name, "unittest.mock", "mock"))
    for function in module.functions():
        for argument in chain(function.args.args, function.args.kwonlyargs):
            if argument.arg in {"monkeypatch", "mocker"}:
                yield function.lineno, argument.arg


def sleeping(module: Module) -> Iterator[tuple[int, str]]:
    if module.path != "tests/waiting.py" and not module.path.startswith("tests/benchmarks/"):
        yield from ((call.lineno, name) for call, name in module.calls() if name.rpartition(".")[2] == "sleep")


CODE, TESTS = ("shared/", "services/"), ("tests/",)


@dataclass(frozen=True)
class Rule:
    """A decision, where it holds, and a file that breaks it."""

    sentence: str
    find: Callable[[Module], Iterator[tuple[int, str]]]
    folders: tuple[str, ...]
    breach: Module


RULES = [
    Rule("Rule 1: a module has at most 350 lines (tests 400)",
         long_modules, CODE + TESTS, Module("shared/x.py", "x = 1\n" * 351)),
    Rule("Rule 1: a function has at most 50 lines",
         long_functions, CODE + TESTS, Module("shared/x.py", "def f():\n" + "    x = 1\n" * 50)),
    Rule("Rule 4: a module is named by its noun",
         vague_names, CODE + TESTS, Module("services/gateway/helpers.py", "")),
    Rule("Import law: a service knows only shared/, shared/ knows no service, the launcher starts services by name",
         foreign_imports, CODE, Module("services/gateway/x.py", "from services import jobmanager")),
    Rule("Rule 13: nats is imported only in its adapters in shared/, and heavy libraries only under backends/",
         vendor_imports, CODE, Module("services/segmentation/x.py", "def f():\n    import torch.nn")),
    Rule("Rule 10: subjects are written down only in shared/subjects.py",
         subject_literals, CODE, Module("services/gateway/x.py", "f'job.ev.{job_id}.end'")),
    Rule("Rule 16: the environment is read only by pydantic settings",
         environment, CODE, Module("shared/bus.py", "import os\nos.environ['NATS_URL']")),
    Rule("Rule 16: settings are made in __main__ and handed down, never at import",
         settings_at_import, CODE, Module("services/gateway/x.py", "settings = Settings()")),
    Rule("Rule 18: a task has a name and lives in a TaskGroup",
         loose_tasks, CODE, Module("services/gateway/x.py", "asyncio.create_task(f(), name='f')")),
    Rule("Rule 19: signals are handled only in shared/lifecycle.py",
         signal_handlers, CODE, Module("services/gateway/x.py", "loop.add_signal_handler(2, stop.set)")),
    Rule("Rule 23: tests patch nothing, fakes are named and shipped",
         patching, TESTS, Module("tests/unit/test_x.py", "def test_x(monkeypatch): pass")),
    Rule("Rule 24: tests wait for something, they do not sleep",
         sleeping, TESTS, Module("tests/unit/test_x.py", "async def test_x(): await asyncio.sleep(1)")),
]  # fmt: skip


@pytest.fixture(scope="module")
def breaches() -> dict[str, list[str]]:
    """Where each rule is broken; every file is parsed once for all of them, and then forgotten."""
    found: dict[str, list[str]] = {rule.sentence: [] for rule in RULES}
    for path in sorted(path for folder in CODE + TESTS for path in (ROOT / folder).rglob("*.py")):
        module = Module(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for rule in RULES:
            if module.path.startswith(rule.folders):
                found[rule.sentence] += [f"{module.path}:{line} ({what})" for line, what in rule.find(module)]
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.find.__name__)
def test_the_code_keeps_the_rule(rule: Rule, breaches: dict[str, list[str]]) -> None:
    """No file breaks it."""
    broken = breaches[rule.sentence]

    assert not broken, f"{rule.sentence}; broken in {', '.join(broken)}."


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.find.__name__)
def test_the_rule_finds_its_breach(rule: Rule) -> None:
    """The counter-example does not pass, so a green rule means something."""
    found = list(rule.find(rule.breach))

    assert found


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (long_modules, set(LONGER_MODULES)),
        (vendor_imports, NATS_ADAPTERS),
        (subject_literals, SUBJECT_OWNERS),
        (environment, ENVIRONMENT_READERS),
        (loose_tasks, TASK_OWNERS),
        (signal_handlers, SIGNAL_OWNERS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_no_exception_is_unused(rule: Callable[[Module], Iterator[tuple[int, str]]], allowed: set[str]) -> None:
    """Without its entry, each excepted file breaks the rule."""
    unused = set()
    for path in allowed:
        elsewhere = Module(f"{path.removesuffix('.py')}_moved.py", (ROOT / path).read_text(encoding="utf-8"))
        if not any(rule(elsewhere)):
            unused.add(path)

    assert not unused, f"Delete the entries of {', '.join(sorted(unused))}."


def test_shared_holds_what_was_decided() -> None:
    """shared/ must not become a drawer: decision 0001 names its modules."""
    modules = {path.stem for path in (ROOT / "shared").glob("*.py")} - {"__init__"}

    assert modules == SHARED, "shared/ holds other modules than docs/decisions/0001 says."


def test_each_decision_has_a_number_of_its_own() -> None:
    """A reader finds a decision by the number that a document cites."""
    files = sorted((ROOT / "docs/decisions").glob("*.md"))
    titles = [file.read_text(encoding="utf-8").partition(" · ")[0].removeprefix("# ") for file in files]

    assert titles == [file.name[:4] for file in files]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_laid_out_alike(service: str) -> None:
    """Rule 2: after one service you know the entry files of all five."""
    files = {path.name for path in (ROOT / "services" / service).glob("*.py")}

    assert files >= {"__main__.py", "settings.py", "service.py"}, f"services/{service} lacks a file that all have."


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_without_heavy_libraries(service: str) -> None:
    """Rule 13: torch and its like are loaded when an engine that needs them is chosen, not before."""
    code = f"import services.{service}.service, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert not {"torch", "diffusers", "transformers", "ultralytics", "c2pa", "httpcore"} & set(loaded.stdout.split())


def test_the_gateway_opens_no_image_itself() -> None:
    """Only its decoding children load Pillow: a file that crashes a decoder must not crash the gateway."""
    code = "import services.gateway.app, services.gateway.service, sys; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert not {"PIL", "numpy", "cv2"} & set(loaded.stdout.split())


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the machine's business; lock files hold names, versions and hashes only."""
    hosts = re.compile(
        rb"\b(pypi|pythonhosted|npmjs|anaconda)\.(org|com)\b|^--(extra-)?index-url|^--find-links", re.MULTILINE
    )
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [path for path in listed.split("\0") if (ROOT / path).is_file()]
    named = [path for path in files if hosts.search((ROOT / path).read_bytes())]

    assert not named, f"No file may name a registry; {', '.join(named)} does."
