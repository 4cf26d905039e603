"""The kustomize components that an overlay may add."""

from __future__ import annotations

import functools
import shutil
import subprocess
from typing import TYPE_CHECKING

import kubernetes_validate
import pytest
import yaml

from deploy.prometheus_rule import ALERTS, RULE, render
from tests.deploy.conftest import ROOT
from tests.deploy.crds import check
from tests.deploy.test_kubernetes import KUBERNETES, SERVICES, of_kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.deploy.conftest import Manifest

COMPONENTS = sorted(folder.name for folder in (ROOT / "deploy/kubernetes/components").iterdir())


@pytest.fixture(scope="module")
def built_with(kustomize: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], list[Manifest]]:
    """Return the objects of an overlay with a component, added as the component's file says."""
    folder = tmp_path_factory.mktemp("components")

    @functools.cache
    def build(overlay: str, component: str) -> list[Manifest]:
        line = f"components: [../../components/{component}]"
        manifests = shutil.copytree(ROOT / "deploy/kubernetes", folder / f"{overlay}-{component}")
        assert line in (manifests / "components" / component / "kustomization.yaml").read_text()
        file = manifests / "overlays" / overlay / "kustomization.yaml"
        file.write_text(f"{file.read_text()}{line}\n")
        ended = subprocess.run(
            [kustomize, "build", manifests / "overlays" / overlay], capture_output=True, text=True, check=True
        )
        return list(yaml.safe_load_all(ended.stdout))

    return build


@pytest.mark.parametrize("component", COMPONENTS)
def test_what_a_component_adds_or_changes_is_valid(
    built: Callable[[str], list[Manifest]],
    built_with: Callable[[str, str], list[Manifest]],
    crds: Path,
    component: str,
) -> None:
    """Against the schemas of Kubernetes, the Gateway API and the Prometheus Operator, in the right namespace."""
    changed = [each for each in built_with("gpu", component) if each not in built("gpu")]
    for manifest in changed:
        if manifest["kind"] in {"PodMonitor", "PrometheusRule"}:
            check(manifest, crds)
        else:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        assert manifest["metadata"]["namespace"] == "artmancer"
    assert changed


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_the_prometheus_operator_scrapes_every_service(
    built_with: Callable[[str, str], list[Manifest]], overlay: str
) -> None:
    """Each pod has the scraped port, and the labels that alerts and dashboard read."""
    found = built_with(overlay, "prometheus-operator")
    (monitor,) = of_kind(found, "PodMonitor").values()
    (choice,) = monitor["spec"]["selector"]["matchExpressions"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    pods = {
        each["spec"]["template"]["metadata"]["labels"][choice["key"]]: each["spec"]["template"]
        for each in of_kind(found, "Deployment").values()
    }

    assert set(choice["values"]) == set(pods)
    for pod in pods.values():
        (container,) = pod["spec"]["containers"]
        assert endpoint["port"] in {port["name"] for port in container["ports"]}
    assert [each["targetLabel"] for each in endpoint["relabelings"]] == ["job", "service"]


def test_the_prometheus_operator_has_the_same_alerts(built_with: Callable[[str, str], list[Manifest]]) -> None:
    """`python -m deploy.prometheus_rule` writes the file."""
    (rule,) = of_kind(built_with("cpu", "prometheus-operator"), "PrometheusRule").values()

    assert RULE.read_text() == render()
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text())


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_an_ingress_takes_the_place_of_the_gateway_api(
    built_with: Callable[[str, str], list[Manifest]], overlay: str
) -> None:
    """With the same host and Secret, and nothing that only one controller reads."""
    found = built_with(overlay, "ingress")
    (ingress,) = of_kind(found, "Ingress").values()
    (rule,) = ingress["spec"]["rules"]

    assert not [each for each in found if each["apiVersion"].startswith("gateway.networking.k8s.io/")]
    assert "annotations" not in ingress["metadata"]
    assert ingress["spec"]["tls"] == [{"hosts": [rule["host"]], "secretName": "gateway-tls"}]
    assert rule["http"]["paths"][0]["backend"]["service"]["name"] in of_kind(found, "Service")


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_an_autoscaler_decides_alone(built_with: Callable[[str, str], list[Manifest]], overlay: str) -> None:
    """It names a deployment, its container and its metric, and no number of replicas stands beside it."""
    found = built_with(overlay, "autoscaling")
    deployments = of_kind(found, "Deployment")
    scalers = of_kind(found, "HorizontalPodAutoscaler")

    assert set(scalers) == {"gateway", "segmentation"}
    for name, scaler in scalers.items():
        spec = deployments[name]["spec"]
        (metric,) = scaler["spec"]["metrics"]
        (container,) = spec["template"]["spec"]["containers"]
        assert scaler["spec"]["scaleTargetRef"]["name"] == name
        assert "replicas" not in spec
        assert metric["containerResource"]["container"] == container["name"]
        assert metric["containerResource"]["name"] in container["resources"]["requests"]


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_every_pod_pulls_with_the_secret(built_with: Callable[[str, str], list[Manifest]], overlay: str) -> None:
    """Also the pod of the job that fills the volume."""
    found = built_with(overlay, "pull-secret")
    pods = [
        each["spec"]["template"]["spec"] for kind in ("Deployment", "Job") for each in of_kind(found, kind).values()
    ]

    assert len(pods) == len(SERVICES) + 1
    assert all(pod["imagePullSecrets"] == [{"name": "registry"}] for pod in pods)


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_spans_may_leave_for_the_collector_that_is_set(
    built_with: Callable[[str, str], list[Manifest]], overlay: str
) -> None:
    """The network policy opens the namespace and the port of the address that all services get."""
    found = built_with(overlay, "otlp")
    (settings,) = [each["data"] for name, each in of_kind(found, "ConfigMap").items() if name.startswith("settings-")]
    (rule,) = of_kind(found, "NetworkPolicy")["spans-to-collector"]["spec"]["egress"]
    (peer,), (port,) = rule["to"], rule["ports"]
    namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]

    assert settings["OTEL_EXPORTER_OTLP_ENDPOINT"].endswith(f".{namespace}:{port['port']}")
    assert settings["NATS_URL"], "The other settings are lost."


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_only_the_image_utilities_read_the_signing_key(
    built_with: Callable[[str, str], list[Manifest]], overlay: str
) -> None:
    """Where their settings name it, beside their key for the broker."""
    deployments = of_kind(built_with(overlay, "signing"), "Deployment")
    readers = [
        name
        for name, each in deployments.items()
        for volume in each["spec"]["template"]["spec"]["volumes"]
        if volume.get("secret", {}).get("secretName") == "signing"
    ]
    (container,) = deployments["imageutils"]["spec"]["template"]["spec"]["containers"]
    files = {each["value"] for each in container["env"] if "SIGNING" in each["name"]}

    assert readers == ["imageutils"]
    assert files == {"/run/secrets/signing/tls.crt", "/run/secrets/signing/tls.key"}
    assert {each["name"]: each["mountPath"] for each in container["volumeMounts"]}["signing"] == "/run/secrets/signing"
    assert "nats" in {each["name"] for each in container["volumeMounts"]}
