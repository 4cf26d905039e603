"""The workers of `--profile gpu` and of both overlays start on a volume that `pull qwen` alone has filled."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.containers import gpu_stand_in
from tests.waiting import SELDOM_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.containers.project import Project

STOCK = {"removal": "stock", "insertion": "stock", "white-balance": "stock"}
COMPOSE, GPU, CPU = "artmancer-a100worker-gpu-1", "overlay-gpu", "overlay-cpu"
FILL = ("--profile", "gpu", "run", "--rm", "--no-deps")
PULL = ("pull", "qwen", "--from", "/from")
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def checkpoint(project: Project) -> Path:
    """Return a folder with a tiny checkpoint without adapters."""
    if why_not := gpu_stand_in.find_obstacle():
        assert not (os.environ.get("CI") and shutil.which("go")), why_not
        pytest.skip(why_not)
    folder = project.engine.work / "tiny-qwen"
    shutil.rmtree(folder, ignore_errors=True)
    gpu_stand_in.build_checkpoint(folder)
    return folder


@pytest.fixture(scope="module")
def workers(project: Project, secrets: Path, checkpoint: Path) -> Iterator[None]:
    """Start all three at once: importing torch takes most of the time."""
    override = project.engine.work / "gpu.yaml"
    gpu_stand_in.write_override(override)
    gpu = project.extend({"COMPOSE_FILE": f"compose.yaml:{override}", **gpu_stand_in.ON_THE_CPU})
    gpu.compose(*FILL, "--volume", f"{checkpoint}:/from:ro", "models-gpu", *PULL)
    project.engine.podman(
        *("run", "--rm", "--volume=overlay-models:/models", f"--volume={checkpoint}:/from:ro", "artmancer/models"),
        *PULL,
    )
    try:
        gpu.compose("--profile", "gpu", "up", "--detach", "--no-build", "--no-deps", "a100worker-gpu")
        for name, overlay in ((GPU, "gpu"), (CPU, "cpu")):
            gpu_stand_in.run_pod(project.engine, name, overlay, secrets, {"models": "overlay-models"})
        yield
    finally:
        project.engine.attempt("rm", "--force", "--time", "0", COMPOSE, GPU, CPU)
        project.engine.attempt("volume", "rm", "overlay-models")


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize(("name", "expected"), [(COMPOSE, "qwen"), (GPU, "qwen"), (CPU, "classical")])
async def test_a_worker_starts_on_a_volume_without_adapters(project: Project, name: str, expected: str) -> None:
    """It is ready after its first image, and its log names the engine and the recipe of each task."""

    async def has_started() -> bool:
        container = await asyncio.to_thread(project.container, name)
        assert container.running, project.logs(name)[-3000:]
        return await asyncio.to_thread(project.ready, name)

    await wait_until(has_started, f"{name} is ready", timeout_s=240, look_every_s=SELDOM_S)

    log = project.logs(name)
    assert gpu_stand_in.facts_of(log, "engine.ready")["engine"] == expected
    if expected == "qwen":
        assert gpu_stand_in.facts_of(log, "qwen.volume")["recipes"] == STOCK
