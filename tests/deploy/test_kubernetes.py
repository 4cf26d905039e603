"""The Kubernetes manifests: valid, locked down, and true to the code that they run."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject

from deploy.settings_table import variables_of
from services.a100worker.settings import Settings
from shared import topology
from shared.settings import StreamSettings
from tests.deploy.conftest import ROOT
from tests.deploy.crds import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.deploy.conftest import Manifest

KUBERNETES = "1.35"
SERVICES = ("gateway", "segmentation", "imageutils", "jobmanager", "a100worker")

FOREIGN = {"ScaledObject", "Gateway", "HTTPRoute"}

pytestmark = pytest.mark.parametrize("overlay", ["cpu", "gpu", "single-node"])


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Return the manifests of one kind, by name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the container of each deployment and job, by name."""
    return {
        name: each["spec"]["template"]["spec"]
        for kind in ("Deployment", "Job")
        for name, each in of_kind(manifests, kind).items()
    }


def test_every_manifest_is_valid(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """Against the schemas of Kubernetes, strictly: a misspelt field is an error. Foreign kinds have other tests."""
    for manifest in built(overlay):
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_all_five_services_are_deployed(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """Each with a disruption budget, so that a drained node takes one pod of a kind at a time."""
    manifests = built(overlay)

    assert set(of_kind(manifests, "Deployment")) == set(SERVICES)
    assert set(of_kind(manifests, "PodDisruptionBudget")) == set(SERVICES)


def test_no_pod_may_do_more_than_its_work(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """No container runs as root, writes to its image, gains privileges or holds a token of the cluster."""
    for name, pod in pods(built(overlay)).items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name


def test_each_service_is_probed(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """Started, ready and alive are three questions."""
    for name, deployment in of_kind(built(overlay), "Deployment").items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        asked = {
            probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        }
        assert asked == {"startupProbe": "/startupz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}, name


def test_every_variable_is_a_setting(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """A variable that no service reads is a misspelt one; and the values are accepted."""
    manifests = built(overlay)
    configs = of_kind(manifests, "ConfigMap")
    (common,) = (config for name, config in configs.items() if name.startswith("settings-"))
    for name in SERVICES:
        (container,) = pods(manifests)[name]["containers"]
        settings = importlib.import_module(f"services.{name}.settings").Settings
        known = set(variables_of(settings))
        given = {entry["name"] for entry in container["env"]}

        assert given <= known, f"{name} does not read {given - known}."
        assert set(common["data"]) - {"MODEL_DIR"} <= known, f"{name} does not read {set(common['data']) - known}."


def test_everybody_is_cut_off_first(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """One policy denies all traffic, both ways; the others allow the needed connections."""
    policies = of_kind(built(overlay), "NetworkPolicy")
    deny = policies["default-deny"]["spec"]

    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    opened = [policy for name, policy in policies.items() if name != "default-deny"]
    rules = [rule for policy in opened for rule in policy["spec"].get("ingress", []) + policy["spec"].get("egress", [])]
    assert all(rule.get("ports") for rule in rules), "A rule opens all ports."
    assert all(rule.get("from") or rule.get("to") for rule in rules), "A rule is open to everybody."


def test_workers_follow_the_whole_queue(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """The scaler watches every consumer that holds jobs, interactive ones at full weight, down to no worker at all."""
    scaled = of_kind(built(overlay), "ScaledObject")
    if overlay != "gpu":
        assert not scaled
        return
    spec = scaled["a100worker"]["spec"]
    triggers = {trigger["name"]: trigger["metadata"] for trigger in spec["triggers"]}
    declared = {
        (stream, str(consumer.durable_name))
        for stream, consumer in topology.build_topology(StreamSettings()).consumers
        if stream in {topology.JOB_LOG, topology.JOB_Q}
    }

    assert {(watched["stream"], watched["consumer"]) for watched in triggers.values()} == declared
    assert sorted(re.findall(r"[a-z_]+", spec["advanced"]["scalingModifiers"]["formula"])) == sorted(triggers)
    assert spec["minReplicaCount"] == 0
    assert "replicas" not in of_kind(built(overlay), "Deployment")["a100worker"]["spec"], "It would fight the scaler."


def test_the_scaler_is_valid(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """KEDA's own types read it, and no field is lost on them."""
    for manifest in of_kind(built(overlay), "ScaledObject").values():
        read = ScaledObject.model_validate(manifest)

        assert read.model_dump(by_alias=True, exclude_unset=True, mode="json") == manifest


def test_the_route_is_valid(overlay: str, built: Callable[[str], list[Manifest]], crds: Path) -> None:
    """HTTPS ends at a Gateway with a certificate, plain requests are sent there, and nothing cuts an event stream."""
    found = [each for each in built(overlay) if each["apiVersion"].startswith("gateway.networking.k8s.io/")]
    if overlay == "single-node":
        assert not found, "kind and minikube have no Gateway API."
        return
    for manifest in found:
        check(manifest, crds)
    (gateway,) = of_kind(found, "Gateway").values()
    routes = of_kind(found, "HTTPRoute")
    listeners = {each["name"]: each for each in gateway["spec"]["listeners"]}
    (route,), (redirect,) = (routes[name]["spec"]["rules"] for name in ("gateway", "to-https"))
    parents = {name: each["spec"]["parentRefs"][0]["sectionName"] for name, each in routes.items()}
    (backend,) = route["backendRefs"]
    (port,) = of_kind(built(overlay), "Service")[backend["name"]]["spec"]["ports"]

    assert listeners["https"]["tls"]["certificateRefs"] == [{"name": "gateway-tls"}]
    assert parents == {"gateway": "https", "to-https": "http"}
    assert {each["hostname"] for each in listeners.values()} == {
        name for each in routes.values() for name in each["spec"]["hostnames"]
    }
    assert route["timeouts"] == {"request": "0s"}
    assert backend["port"] == port["port"]
    assert redirect["filters"][0]["requestRedirect"]["scheme"] == "https"


def test_one_node_is_enough_for_the_overlay_for_one(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """One pod of each kind, one copy of each message, a volume that one node can mount, and two CPUs."""
    if overlay != "single-node":
        return
    manifests = built(overlay)
    (settings,) = [each for name, each in of_kind(manifests, "ConfigMap").items() if name.startswith("settings-")]
    (volume,) = of_kind(manifests, "PersistentVolumeClaim").values()
    requests = [pod["containers"][0]["resources"]["requests"]["cpu"] for pod in pods(manifests).values()]

    assert {each["spec"]["replicas"] for each in of_kind(manifests, "Deployment").values()} == {1}
    assert settings["data"]["STREAMS_REPLICAS"] == "1"
    assert volume["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert set(requests) == {"100m"}


def test_names_are_found_on_the_node_too(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """NodeLocal DNSCache answers from an address of the node, in no namespace."""
    (rule,) = of_kind(built(overlay), "NetworkPolicy")["names"]["spec"]["egress"]

    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]


def test_images_are_pinned(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """Every image has the version of this project."""
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None

    for name, pod in pods(built(overlay)).items():
        for container in pod["containers"]:
            assert re.fullmatch(rf"artmancer/[a-z0-9]+:{re.escape(version[1])}(-cuda)?", container["image"]), name


def test_a_gpu_worker_reads_every_setting_of_its_engine(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """They are in one place, with the worker's own defaults; obsolete ones are left out."""
    manifests = built(overlay)
    given = {name: each["data"] for name, each in of_kind(manifests, "ConfigMap").items() if name.startswith("qwen")}
    if overlay != "gpu":
        assert given == {}
        return
    ((config, data),) = given.items()
    ours = (name for name, field in Settings.model_fields.items() if name.startswith("qwen_") and not field.deprecated)
    fields = {f"A100WORKER_{name}".upper(): name for name in ours}

    assert data.keys() == fields.keys()
    for variable, value in data.items():
        name = fields[variable]
        assert getattr(Settings.model_validate({name: value}), name) == Settings.model_fields[name].default, variable
    (container,) = pods(manifests)["a100worker"]["containers"]
    sources = [source["configMapRef"]["name"] for source in container["envFrom"]]
    assert [source.partition("-")[0] for source in sources] == ["settings", "qwen"]
    assert sources[1] == config


def test_a_gpu_worker_drains_as_long_as_the_longest_edit(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """And Kubernetes waits for longer."""
    worker = pods(built(overlay))["a100worker"]
    (drain_s,) = [each["value"] for each in worker["containers"][0]["env"] if each["name"] == "A100WORKER_DRAIN_S"]

    assert (worker["terminationGracePeriodSeconds"], drain_s) == ((330, "300") if overlay == "gpu" else (60, "50"))


def test_the_pod_for_commands_about_models_is_valid(overlay: str, built: Callable[[str], list[Manifest]]) -> None:
    """It is applied by hand (docs/models.md), and mounts the volume as the job that fills it does."""
    pod = yaml.safe_load((ROOT / "deploy/kubernetes/models-shell.yaml").read_text())
    (job,) = [each for each in built(overlay) if each["kind"] == "Job"]
    filling = job["spec"]["template"]["spec"]

    kubernetes_validate.validate(pod, KUBERNETES, strict=True)

    assert pod["spec"]["volumes"] == filling["volumes"]
    assert pod["spec"]["securityContext"] == filling["securityContext"]
    assert pod["spec"]["containers"][0]["securityContext"] == filling["containers"][0]["securityContext"]
    assert pod["metadata"]["namespace"] == job["metadata"]["namespace"]
