"""The proxies in front of a gateway wait longer than it does."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.deploy.conftest import ROOT

START_S = 10.0  # the start of a container


@pytest.mark.parametrize("name", ["Caddyfile", "Caddyfile.web-client"])
def test_caddy_holds_requests_while_a_gateway_drains_and_starts(name: str) -> None:
    """In compose.yaml the next gateway starts after the last one has ended."""
    text = (ROOT / "deploy" / name).read_text()
    gateway = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["gateway"]
    (tries_s,) = re.findall(r"^\s*lb_try_duration (\d+)s\b", text, re.MULTILINE)

    assert float(tries_s) >= float(gateway["environment"]["GATEWAY_DRAIN_S"]) + START_S
    assert not re.search(r"^\s*(response_header|read|write)_timeout ", text, re.MULTILINE)
    assert re.search(r"^\tgrace_period \d+s\b", text, re.MULTILINE), "An open event stream would hold up a stop."


def test_kubernetes_waits_longer_than_a_gateway_drains() -> None:
    """After the pause before SIGTERM a pod has its drain time, three seconds to close, and one for its threads."""
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/base/gateway.yaml").read_text())
    (pod,) = [each["spec"]["template"]["spec"] for each in documents if each["kind"] == "Deployment"]
    (container,) = pod["containers"]
    (drain_s,) = [float(each["value"]) for each in container["env"] if each["name"] == "GATEWAY_DRAIN_S"]
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert pod["terminationGracePeriodSeconds"] >= pause_s + drain_s + 4
