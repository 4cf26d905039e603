"""A GPU worker without a GPU: the image for CPUs with this machine's torch mounted, and a checkpoint of 2 MB.

The real image has several GB of CUDA. The rest is real: variables, mounts, users, limits, secrets.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from tests.containers.engine import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.containers.engine import Engine

ON_THE_CPU = {"A100WORKER_QWEN_DEVICE": "cpu", "A100WORKER_QWEN_WORK_PX": "128"}
_PYTHON, _KUSTOMIZE = ROOT / ".venv-models/bin/python", ROOT / ".tools/bin/kustomize"
_TORCH = "/opt/torch"
_OF_THE_GPU_IMAGE = {
    "PYTHONPATH": f"/app:{_TORCH}",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}
_BUILD = """
import pathlib, shutil, sys
from tests.models import tiny_qwen
folder = pathlib.Path(sys.argv[1])
tiny_qwen.build(folder, zero_cond_t=True)
shutil.rmtree(folder / "adapters")
(folder / "manifest.json").unlink()
"""
_SECRETS = {"nats-a100worker": ("a100worker/nats.nk", "ca.crt")}


def find_obstacle() -> str | None:
    """Return the reason why the workers cannot be started here, in a sentence."""
    if not _PYTHON.exists():
        return "`make test-models` installs the torch that this test needs."
    if not _KUSTOMIZE.exists():
        return "There is no kustomize; where Go is installed, `make tools` builds it."
    return None


def build_checkpoint(folder: Path) -> None:
    """Write a tiny checkpoint of 2511 without adapters, as its publisher has it."""
    subprocess.run([_PYTHON, "-c", _BUILD, folder], cwd=ROOT, check=True, capture_output=True, timeout=120)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def write_override(path: Path) -> None:
    """Write the settings that run the GPU worker of compose.yaml here."""
    worker = {
        "image": "artmancer/a100worker:latest",
        "environment": _OF_THE_GPU_IMAGE,
        "volumes": [f"{_torch()}:{_TORCH}:ro"],
    }
    text = yaml.safe_dump({"services": {"a100worker-gpu": worker}})
    # Neither a GPU, nor eight cores, nor the pull of all models.
    text += '    depends_on: !reset {}\n    deploy: {resources: {limits: {cpus: "2"}, reservations: !reset {}}}\n'
    path.write_text(text)


def render(overlay: str) -> list[dict[str, Any]]:
    """Return the manifests of an overlay."""
    command: list[str | Path] = [_KUSTOMIZE, "build", ROOT / "deploy/kubernetes/overlays" / overlay]
    built = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return [manifest for manifest in yaml.safe_load_all(built.stdout) if manifest]


def run_pod(engine: Engine, name: str, overlay: str, secrets: Path, volumes: dict[str, str]) -> None:
    """Start the worker of an overlay with the settings, user, mounts and privileges of its pod.

    `volumes` names Podman's volume for each claim.
    """
    manifests = render(overlay)
    (pod,) = (
        each["spec"]["template"]["spec"]
        for each in manifests
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "a100worker"
    )
    (container,) = pod["containers"]
    user = pod["securityContext"]
    variables = _variables(container, manifests) | _OF_THE_GPU_IMAGE
    if variables.get("A100WORKER_BACKEND") == "qwen":
        variables |= ON_THE_CPU
    engine.podman(
        *("run", "--detach", "--name", name, "--network=artmancer_bus", "--cap-drop=all"),
        *("--security-opt=no-new-privileges", "--read-only", "--read-only-tmpfs=false"),
        f"--user={user['runAsUser']}:{user['runAsGroup']}",
        *(f"--env={variable}={value}" for variable, value in variables.items()),
        *(f"--{kind}={mount}" for kind, mount in _mounts(pod, container, secrets, volumes)),
        f"--volume={_torch()}:{_TORCH}:ro",
        "artmancer/a100worker",
    )


def _torch() -> Path:
    (packages,) = (ROOT / ".venv-models/lib").resolve().glob("python3.11/site-packages")
    return packages


def _variables(container: dict[str, Any], manifests: list[dict[str, Any]]) -> dict[str, str]:
    maps = {each["metadata"]["name"]: each["data"] for each in manifests if each["kind"] == "ConfigMap"}
    variables: dict[str, str] = {}
    for source in container["envFrom"]:
        variables |= maps[source["configMapRef"]["name"]]
    return variables | {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def _mounts(
    pod: dict[str, Any], container: dict[str, Any], secrets: Path, volumes: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield `volume` or `tmpfs` with its value for each mount of the pod's container."""
    sources = {each["name"]: each for each in pod["volumes"]}
    for mount in container["volumeMounts"]:
        source, target = sources[mount["name"]], mount["mountPath"]
        if "secret" in source:
            for file in _SECRETS[source["secret"]["secretName"]]:
                yield "volume", f"{secrets / file}:{target}/{file.rpartition('/')[2]}:ro"
        elif "persistentVolumeClaim" in source:
            yield "volume", f"{volumes[source['persistentVolumeClaim']['claimName']]}:{target}:ro"
        else:
            size = source["emptyDir"]["sizeLimit"].removesuffix("i").lower()
            yield "tmpfs", f"{target}:size={size},mode=1777,exec,nosuid,nodev"


def facts_of(log: str, event: str) -> dict[str, Any]:
    """Return the fields of the first event of that name in a JSON log; empty where there is none."""
    for line in log.splitlines():
        if line.startswith("{") and (entry := json.loads(line)).get("event") == event:
            return dict(entry)
    return {}
