"""The values for the NATS chart agree with the cluster's own configuration."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from shared import topology
from shared.settings import StreamSettings
from tests.deploy.conftest import ROOT

DECLARED = (ROOT / "deploy/nats-cluster.conf").read_text()


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """Return the chart's value `config`."""
    values = yaml.safe_load((ROOT / "deploy/kubernetes/nats-values.yaml").read_text())
    return dict(values["config"])


@pytest.mark.parametrize("setting", ["max_payload", "max_pending", "write_deadline", "lame_duck_duration"])
def test_a_limit_is_the_one_of_the_cluster(config: dict[str, Any], setting: str) -> None:
    """Two files have it, because the chart writes its own configuration."""
    wanted = re.search(rf"^{setting}: (\S+)", DECLARED, re.MULTILINE)
    assert wanted is not None

    assert str(config["merge"][setting]).strip("<> ") == wanted[1]


def test_what_is_accepted_is_on_disk(config: dict[str, Any]) -> None:
    """A power cut that takes all servers at once loses nothing that was accepted."""
    assert config["jetstream"]["merge"]["sync_interval"] == "always"
    assert "sync_interval: always" in DECLARED


def test_the_volume_holds_all_that_may_be_kept(config: dict[str, Any]) -> None:
    """Every stream at its limit fits into the store, and the store into its volume."""
    limits = sum(int(stream.max_bytes or 0) for stream in topology.build_topology(StreamSettings()).streams)
    store = config["jetstream"]["fileStore"]

    assert limits < gibibytes(store["maxSize"]) < gibibytes(store["pvc"]["size"])


def test_nobody_connects_in_the_clear(config: dict[str, Any]) -> None:
    """Clients and routes use TLS, routes also present a certificate; the users come from the generator."""
    assert config["nats"]["tls"]["enabled"] is True
    assert config["cluster"]["tls"]["enabled"] is True
    assert config["cluster"]["tls"]["merge"]["verify"] is True
    assert config["merge"]["users$include"].endswith("/users.conf")


def gibibytes(quantity: str) -> int:
    """Read a quantity of Kubernetes, in bytes."""
    assert quantity.endswith("Gi")
    return int(quantity.removesuffix("Gi")) * 1024**3
