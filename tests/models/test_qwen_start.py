"""A worker starts as compose.yaml and the overlay for GPUs start it, on a volume that `pull qwen` alone has filled."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from shared import rpc, subjects
from shared.errors import Unavailable
from shared.messages import HealthReply, HealthRequest
from tests.models.seal import seal
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bus import Bus
    from tests.running import Desk

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "deploy/kubernetes/overlays/gpu"
ON_THIS_MACHINE = {
    "A100WORKER_QWEN_DEVICE": "cpu", "A100WORKER_QWEN_WORK_PX": "128",
}  # fmt: skip


def of_compose() -> dict[str, str]:
    """Return the worker's variables in compose.yaml; those without a value are not set."""
    command = [str(Path(sys.executable).parent / "docker-compose"), "--profile", "gpu", "config", "--format", "json"]
    read = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    variables: dict[str, Any] = json.loads(read.stdout)["services"]["a100worker-gpu"]["environment"]
    return {name: value for name, value in variables.items() if value is not None}


def of_the_overlay() -> dict[str, str]:
    """Return the worker's variables in the overlay: its own, and those of the map that it reads."""
    (settings,) = yaml.safe_load((OVERLAY / "kustomization.yaml").read_text())["configMapGenerator"]
    pod = yaml.safe_load((OVERLAY / "a100worker.yaml").read_text())["spec"]["template"]["spec"]
    own = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    return dict(literal.split("=", 1) for literal in settings["literals"]) | own


@pytest.mark.parametrize("deployed", [of_compose, of_the_overlay], ids=["compose", "overlay"])
async def test_a_worker_starts_on_a_volume_without_adapters(
    desk: Desk, bus: Bus, qwen_models: Path, tmp_path: Path, deployed: Callable[[], dict[str, str]]
) -> None:
    """It has painted when it is healthy, and health names the engine."""
    models = shutil.copytree(qwen_models, tmp_path / "models")
    shutil.rmtree(models / "qwen/adapters")
    seal(models / "qwen")
    variables = {name: value for name, value in deployed().items() if name.startswith("A100WORKER_")}
    own = {"A100WORKER_NAME": "stock", "MODEL_DIR": str(models), "A100WORKER_BACKEND": variables["A100WORKER_BACKEND"]}

    async def healthy() -> bool:
        try:
            reply = await rpc.call(bus, subjects.health("a100worker"), HealthRequest(), HealthReply, timeout_s=1)
        except Unavailable:
            return False
        return (reply.status, reply.instance) == ("healthy", "stock")

    async with desk.worker_process("qwen", **(variables | ON_THIS_MACHINE | own)):
        await wait_until(healthy, "the worker is healthy", timeout_s=300)  # bfloat16, and libraries beside other tests
