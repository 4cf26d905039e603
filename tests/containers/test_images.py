"""The built images: small, complete, and without anything that their service does not need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.images import PYTHON

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.containers.engine import Engine

# Over the base, in millions of bytes. OpenCV is 153 of them wherever it is, onnxruntime 40.
LIMITS_MB = {"jobmanager": 40, "models": 50, "gateway": 150, "a100worker": 340, "segmentation": 340,
             "imageutils": 335}  # with c2pa and cryptography, which sign results  # fmt: skip
PULLED_MB = 250
SERVICES = sorted(LIMITS_MB.keys() - {"models"})
INVENTORY = """
import json, pathlib, sys
from importlib import metadata
app, packages = pathlib.Path("/app"), pathlib.Path(sys.prefix)
sources = [path for root in (app, packages) for path in root.rglob("*.py") if "__pycache__" not in path.parts]
compiled = lambda path: (path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc").exists()
print(json.dumps({
    "app": sorted(str(path.relative_to(app)) for path in (*app.glob("*"), *app.glob("services/*"))
                  if path.name != "__pycache__"),
    "uncompiled": [str(path) for path in sources if not compiled(path)],
    "distributions": sorted(d.metadata["Name"].lower() for d in metadata.distributions(path=sys.path)),
    "heavy": [name for name in ("torch", "diffusers", "transformers") if any(packages.rglob(name))],
}))
"""

pytestmark = pytest.mark.timeout(120)


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    """Return the engine's description of an image."""
    (found,) = json.loads(engine.podman("image", "inspect", name))
    image: dict[str, Any] = found
    return image


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    """Each service in turn."""
    return str(request.param)


@pytest.mark.parametrize("name", LIMITS_MB)
def test_an_image_is_small(engine: Engine, name: str, record_property: Callable[[str, object], None]) -> None:
    """The layers above its base image stay below the limit."""
    added_mb = (inspect(engine, f"artmancer/{name}")["Size"] - inspect(engine, PYTHON)["Size"]) / 1e6
    record_property(f"{name}_mb", round(added_mb))

    assert added_mb <= LIMITS_MB[name], f"{name} adds {added_mb:.0f} MB."


def test_the_largest_image_is_pulled_soon(engine: Engine, tmp_path: Path) -> None:
    """Compressed and with its base, as a registry has it."""
    engine.podman("push", "--quiet", "--compress", "artmancer/segmentation", f"dir:{tmp_path}")

    assert sum(file.stat().st_size for file in tmp_path.iterdir()) / 1e6 <= PULLED_MB


def test_an_image_says_what_it_is(engine: Engine, service: str) -> None:
    """The labels of the OCI are the same in every container engine."""
    image = inspect(engine, f"artmancer/{service}")

    assert image["Labels"]["org.opencontainers.image.title"] == f"artmancer-{service}"
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["Cmd"] == ["python", "-m", f"services.{service}"]
    assert image["Healthcheck"]["Test"] == ["CMD", "python", "-m", "shared.probes"]


def test_an_image_holds_its_service_and_nothing_else(engine: Engine, service: str) -> None:
    """The code is compiled, the image lists its packages, and the root file system is read-only."""
    said = engine.podman(
        *("run", "--rm", "--read-only", "--network=none", "--cap-drop=all", f"artmancer/{service}"),
        *("python", "-c", INVENTORY),
    )
    found = json.loads(said)

    assert found["app"] == ["services", "services/__init__.py", f"services/{service}", "shared"]
    assert found["uncompiled"] == []
    assert found["heavy"] == []
    assert {"nats-py", "pydantic"} <= set(found["distributions"])
    assert not {"pip", "setuptools", "pytest"} & set(found["distributions"])


def test_an_image_needs_no_shell(engine: Engine, service: str) -> None:
    """Without its settings it prints a sentence and exits."""
    hidden = ("--volume=/dev/null:/bin/sh:ro", "--volume=/dev/null:/bin/dash:ro", "--volume=/dev/null:/bin/bash:ro")

    ended = engine.attempt("run", "--rm", "--network=none", *hidden, "--env=LOG_LEVEL=LOUD", f"artmancer/{service}")

    assert ended.returncode == 78, ended.stderr
    assert "LOG_LEVEL" in ended.stderr
