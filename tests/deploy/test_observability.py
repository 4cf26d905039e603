"""The dashboard and the alerts query metrics that the code counts, in expressions that Prometheus can parse."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/observability"
SERVICES = ("gateway.http", "jobmanager", "a100worker", "segmentation")
OWNERS = (
    "shared.metrics",
    "services.gateway.core.fullness",
    "services.gateway.core.workers",
    "services.jobmanager.watch.broker",
    *(f"services.{name}.metrics" for name in SERVICES),
)
OF_PROMETHEUS = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}
OF_THE_SCRAPE = {"job", "service", "instance", "le"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def list_metrics() -> dict[str, set[str]]:
    """Return the series of the code, and the labels of each."""
    for owner in OWNERS:
        importlib.import_module(owner)
    labels = {"artmancer_gpu_memory_bytes": {"gpu", "state"}}
    for collector in set(REGISTRY._collector_to_names):  # noqa: SLF001 (the registry lists no labels otherwise)
        for name in REGISTRY._collector_to_names[collector]:  # noqa: SLF001
            labels.setdefault(name, set(getattr(collector, "_labelnames", ())))
    return {
        f"{family.name}{suffix}": labels[family.name]
        for family in REGISTRY.collect()
        if family.name.startswith("artmancer_")
        for suffix in SUFFIXES[family.type]
    }


def dashboard() -> dict[str, Any]:
    """Return the file, loaded."""
    loaded: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    """Those that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    """All alerts."""
    loaded = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def queries() -> dict[str, str]:
    """Every query, by where it stands; Grafana's own words are filled in."""
    asked = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "1m")
        for panel in panels()
        for target in panel["targets"]
    }
    return asked | {rule["alert"]: rule["expr"] for rule in rules()}


QUERIES = queries()


def nodes(expression: Any) -> Iterator[Any]:
    """Provide the expression and everything in it."""
    yield expression
    for name in ("expr", "lhs", "rhs", "vs", "vector_selector", "param"):
        inner = getattr(expression, name, None)
        if inner is not None:
            yield from nodes(inner)
    for argument in getattr(expression, "args", None) or ():
        yield from nodes(argument)


def grouped_by(query: str) -> set[str]:
    """Return the labels that a query sums up by, or leaves out of a match."""
    lists = re.findall(r"\b(?:by|ignoring)\s*\(([^)]*)\)", query)
    return {label.strip() for labels in lists for label in labels.split(",")}


@pytest.mark.parametrize("place", QUERIES)
def test_a_query_asks_for_what_is_counted(place: str) -> None:
    """It parses, its series exist, and so do the labels that it filters and groups by."""
    series, known = list_metrics(), set(OF_THE_SCRAPE)
    selectors = [
        node for node in nodes(promql_parser.parse(QUERIES[place])) if isinstance(node, promql_parser.VectorSelector)
    ]
    assert selectors
    for selector in selectors:
        assert selector.name in series.keys() | OF_PROMETHEUS
        known |= series.get(selector.name, set())
    filtered = {matcher.name for selector in selectors for matcher in selector.matchers.matchers}

    assert filtered | grouped_by(QUERIES[place]) <= known


def test_a_query_for_nothing_would_be_found() -> None:
    """The walk sees a name wherever it stands."""
    query = "histogram_quantile(0.9, sum by (le) (rate(no_such_bucket[1m]))) > 2 * (other unless third)"
    names = {getattr(node, "name", None) for node in nodes(promql_parser.parse(query))}

    assert {"no_such_bucket", "other", "third"} <= names


def test_what_is_counted_is_shown() -> None:
    """A metric that no panel and no alert reads has no use."""
    asked = " ".join(QUERIES.values())
    unseen = {name for name in list_metrics() if re.sub(r"_(total|bucket|sum|count)$", "", name) not in asked}

    assert not unseen


def test_panels_say_what_they_show_and_do_not_overlap() -> None:
    """Each has a title, a sentence, a unit and a place of its own."""
    places: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & places, panel["title"]
        assert at["x"] + at["w"] <= 24
        places |= cells
    for panel in panels():
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["legendFormat"] for target in panel["targets"])
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_can_be_acted_on(rule: dict[str, Any]) -> None:
    """It has a severity and one sentence, and the manual has a section of its name."""
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"].endswith(".")
    assert promql_parser.parse_duration(rule.get("for", "1s")) is not None
    assert f"### {rule['alert']}\n" in (ROOT / "docs/observability.md").read_text()


def test_the_scrape_finds_every_service_where_its_container_listens() -> None:
    """The targets have the names in compose.yaml and the port that the images set."""
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    ours = {name for name, service in compose.items() if "build" in service} - {"models", "models-gpu", "tools"}

    assert set(found["names"]) == ours
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    assert dockerfile.count(f"PROBE_PORT={found['port']}") == 2, "Both bases of the services set it."


def test_prometheus_itself_agrees() -> None:
    """The files hold, and alerts fire when they should. Debian has `promtool` in its package prometheus."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("There is no promtool.")
    played = Path(__file__).with_name("alerts.test.yaml")
    commands = (
        ["check", "rules", "alerts.yaml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", str(played)],
    )
    checked = [
        subprocess.run([promtool, *command], cwd=FOLDER, capture_output=True, text=True, check=False)
        for command in commands
    ]

    assert [ended.returncode for ended in checked] == [0, 0, 0], [ended.stdout + ended.stderr for ended in checked]


def test_the_profile_for_metrics_is_for_this_machine_only() -> None:
    """Prometheus and Grafana publish on loopback, and Grafana cannot reach the services."""
    command: list[str | Path] = [Path(sys.executable).parent / "docker-compose", "--env-file", "/dev/null"]
    command += ["--profile", "cpu", "--profile", "observability", "config", "--format", "json"]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    read = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    services = json.loads(read.stdout)["services"]
    added = {name: services[name] for name in ("prometheus", "grafana")}

    assert {port["host_ip"] for service in added.values() for port in service["ports"]} == {"127.0.0.1"}
    assert set(services["grafana"]["networks"]) == {"outside", "watch"}
    assert all(service["cap_drop"] == ["ALL"] and service["read_only"] for service in added.values())


def test_grafana_finds_the_dashboard_where_compose_puts_it() -> None:
    """The provider reads the folder of the mounted file, and the source of its data is our Prometheus."""
    source = yaml.safe_load((FOLDER / "grafana/datasource.yaml").read_text())["datasources"][0]
    provider = yaml.safe_load((FOLDER / "grafana/dashboards.yaml").read_text())["providers"][0]
    mounted = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]["configs"]
    targets = {each["source"]: each["target"] for each in mounted}

    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert Path(targets["dashboard"]).parent == Path(provider["options"]["path"])
    assert targets["datasource"].startswith("/etc/grafana/provisioning/datasources/")
    assert targets["dashboards"].startswith("/etc/grafana/provisioning/dashboards/")
