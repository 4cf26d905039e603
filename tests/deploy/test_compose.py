"""compose.yaml as Docker Compose reads it: valid, locked down, true to the code. `make test-containers` runs it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.settings_table import variables_of
from services.a100worker.settings import Settings
from tests.deploy.conftest import ROOT

COMPOSE = Path(sys.executable).parent / "docker-compose"
CHECK = Path(sys.executable).parent / "check-jsonschema"
OURS = ("gateway", "segmentation", "imageutils", "jobmanager", "a100worker")
ENGINES = ("segmentation", "a100worker")  # the services that exist once for CPUs and once for GPUs
UNREAD = {"MODEL_DIR", "HF_HOME"}

DEFAULT = ""  # no --profile, no COMPOSE_PROFILES and no .env file

pytestmark = pytest.mark.parametrize("profile", [DEFAULT, "cpu", "gpu"])


def compose(profile: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Docker Compose on the file; this needs no engine."""
    chosen = ["--profile", profile] if profile else []
    command: list[str | Path] = [COMPOSE, "--env-file", "/dev/null", *chosen, "config", *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def services(profile: str) -> dict[str, dict[str, Any]]:
    """Return the services of a profile, all variables filled in."""
    read = compose(profile, "--format", "json")
    assert read.returncode == 0, read.stderr
    found: dict[str, dict[str, Any]] = json.loads(read.stdout)["services"]
    return found


def seconds(duration: str) -> float:
    """Compose's way to write a time."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", duration))


def test_compose_accepts_it(profile: str) -> None:
    """Without a word."""
    read = compose(profile, "-q")

    assert (read.returncode, read.stdout, read.stderr) == (0, "", "")


def test_it_follows_the_specification(profile: str) -> None:
    """Which knows fields that Compose overlooks."""
    command: list[str | Path] = [CHECK, "--builtin-schema", "vendor.compose-spec", ROOT / "compose.yaml"]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)

    assert judged.returncode == 0, f"{profile}: {judged.stdout}"


def test_only_the_image_utilities_read_the_signing_key(profile: str) -> None:
    """With the file for that, which changes nothing else."""
    files = f"compose.yaml{os.pathsep}deploy/compose.signing.yaml"
    read = compose(profile, "--format", "json", COMPOSE_FILE=files, SIGNING="/etc/signing")
    assert read.returncode == 0, read.stderr
    signing, plain = json.loads(read.stdout)["services"], services(profile)
    changed = {name for name in plain if signing[name] != plain[name]}
    more = {secret["source"] for secret in signing["imageutils"]["secrets"]} - {"ca", "imageutils"}

    assert set(signing) == set(plain)
    assert changed == {"imageutils"}
    assert more == {"signing.crt", "signing.key"}
    settings = {name: text for name, text in signing["imageutils"]["environment"].items() if "SIGNING" in name}
    assert set(settings.values()) == {f"/run/secrets/{name}" for name in more}
    assert json.loads(read.stdout)["secrets"]["signing.key"]["file"] == "/etc/signing/signing.key"


def test_each_service_runs_once(profile: str) -> None:
    """On CPUs, which is the default, or on GPUs: a worker of the other kind would take its jobs from the queue."""
    suffix = "-gpu" if profile == "gpu" else ""
    own = {f"{name}{suffix}" if name in ENGINES else name for name in OURS}

    assert set(services(profile)) == own | {"caddy", "nats", f"models{suffix}"}


def test_only_caddy_can_be_reached(profile: str) -> None:
    """Only its ports are published, and only on the loopback address; the models' job and webhooks use the outside."""
    read = json.loads(compose(profile, "--format", "json").stdout)
    open_to = {name: set(service["networks"]) for name, service in read["services"].items()}

    assert [name for name, service in read["services"].items() if service.get("ports")] == ["caddy"]
    assert {name for name, network in read["networks"].items() if not network.get("internal")} == {
        "outside",
        "webhooks",
    }
    assert {name for name, networks in open_to.items() if "webhooks" in networks} == {"jobmanager"}
    assert open_to["caddy"] == {"outside", "front"}
    assert {name for name, networks in open_to.items() if "outside" in networks} <= {"caddy", "models", "models-gpu"}
    assert {port["host_ip"] for port in read["services"]["caddy"]["ports"]} == {"127.0.0.1"}


def test_nobody_may_do_more_than_its_work(profile: str) -> None:
    """No capabilities, no writable place but /tmp and volumes, and a limit for each resource."""
    for name, service in services(profile).items():
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else []), name
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"]), name
        assert service["restart"] == ("no" if name.startswith("models") else "unless-stopped"), name


def test_no_folder_of_the_host_is_made(profile: str) -> None:
    """Without `make secrets` the start ends with a sentence. A folder that Docker made would belong to root."""
    folders = {
        (name, volume["target"]): volume["bind"].get("create_host_path")
        for name, service in services(profile).items()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    }

    assert folders == {("gateway", "/run/access"): False, ("nats", "/etc/nats"): False}


def test_every_variable_is_a_setting(profile: str) -> None:
    """A variable that no service reads is a misspelt one; and the values are accepted."""
    for name, service in services(profile).items():
        own = name.removesuffix("-gpu")
        if own not in OURS:
            continue
        settings = importlib.import_module(f"services.{own}.settings").Settings
        unread = set(service["environment"]) - set(variables_of(settings)) - UNREAD

        assert not unread, f"{name} does not read {unread}."


def test_a_gpu_worker_reads_every_setting_of_its_engine(profile: str) -> None:
    """An operator sets a variable and need not edit the file; without a GPU the engine is another."""
    (worker,) = [service for name, service in services(profile).items() if name.startswith("a100worker")]
    settings = {name for name in variables_of(Settings) if name.startswith("A100WORKER_QWEN_")}

    passed_on = {name for name in worker["environment"] if name.startswith("A100WORKER_QWEN_")}
    assert passed_on == (settings if profile == "gpu" else set())


def test_a_gpu_worker_has_the_time_and_the_folder_that_it_needs(profile: str) -> None:
    """The longest edit may end, and kernels can be loaded from the folder that they were compiled into."""
    for name, service in services(profile).items():
        if name == "a100worker-gpu":
            assert service["environment"]["A100WORKER_DRAIN_S"] == "300"
            assert seconds(service["stop_grace_period"]) == 330
            (kernels,) = [mount for mount in service["tmpfs"] if mount.startswith("/var/cache/artmancer:")]
            assert "exec" in kernels.partition(":")[2].split(",")


def test_a_stop_may_take_as_long_as_its_drain(profile: str) -> None:
    """Docker kills only a service that has overstepped its own deadline."""
    for name, service in services(profile).items():
        own = name.removesuffix("-gpu")
        if own in OURS:
            drain_s = float(service["environment"][f"{own.upper()}_DRAIN_S"])
            assert seconds(service["stop_grace_period"]) >= drain_s + 2, name


def test_gpus_are_asked_for_where_they_are_used(profile: str) -> None:
    """And nowhere else."""
    asking = {name for name, service in services(profile).items() if "devices" in str(service["deploy"])}

    assert asking == ({"a100worker-gpu", "segmentation-gpu"} if profile == "gpu" else set())


def test_models_are_there_before_their_readers(profile: str) -> None:
    """A service that mounts weights mounts them read-only and waits for their download."""
    for name, service in services(profile).items():
        mounted = [volume for volume in service.get("volumes", []) if volume["target"].startswith("/models/")]
        if mounted and not name.startswith("models"):
            assert all(volume.get("read_only") for volume in mounted), name
            (waits,) = [entry for other, entry in service["depends_on"].items() if other.startswith("models")]
            assert waits["condition"] == "service_completed_successfully", name
