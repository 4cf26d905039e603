"""The metrics of running jobs and requests, read from the text of a scrape as Prometheus reads it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from shared.listener import render_metrics
from tests.gateway import edit
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.gateway import Client
    from tests.running import Desk

ROOT = Path(__file__).parents[3]
IDENTIFYING = {"user", "job_id", "job", "image", "sha256", "key", "instance", "request_id"}  # a worker is a container


def value(name: str, **labels: str) -> float:
    """Return a sample's value, 0 if there is none. Counters of this process continue from test to test."""
    text = render_metrics().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())


async def test_a_job_is_counted_by_all_who_see_it(desk: Desk) -> None:
    """Once by each: its end by the job manager, the attempt and its phases by the worker."""
    counted = {
        "artmancer_jobs_ended_total": {"task": "white-balance", "state": "done"},
        "artmancer_job_seconds_count": {"task": "white-balance"},
        "artmancer_job_wait_seconds_count": {"job_class": "interactive"},
        "artmancer_attempts_total": {"task": "white-balance", "outcome": "done"},
        "artmancer_job_phase_seconds_count": {"task": "white-balance", "phase": "edit"},
    }
    before = {name: value(name, **labels) for name, labels in counted.items()}
    async with desk.manager(), desk.worker():
        await desk.submit("j1")
        await desk.done("j1")
        await wait_until(
            lambda: value("artmancer_jobs_ended_total", state="done") > 0, "the job manager has seen the end"
        )

        def measure_growth() -> dict[str, float]:
            return {name: value(name, **labels) - before[name] for name, labels in counted.items()}

        await wait_until(lambda: set(measure_growth().values()) == {1.0}, "each has counted one")


async def test_the_queue_is_seen_as_it_is(desk: Desk) -> None:
    """Each scrape has the number of waiting jobs, the age of the first one, and the running jobs."""
    async with desk.manager():
        for number in range(3):
            await desk.submit(f"j{number}", script(1000, 10))
        await wait_until(
            lambda: value("artmancer_jobs_waiting", job_class="interactive") == 3, "three jobs are seen to wait"
        )
        first = value("artmancer_jobs_oldest_wait_seconds", job_class="interactive")
        async with desk.worker():
            await wait_until(
                lambda: value("artmancer_jobs_running", job_class="interactive") == 1, "one job is seen to run"
            )
            waiting = value("artmancer_jobs_waiting", job_class="interactive")
            busy = value("artmancer_worker_busy")
            await wait_until(
                lambda: value("artmancer_jobs_oldest_wait_seconds", job_class="interactive") > first,
                "the oldest of those that wait now has waited longer than the one before it had",
            )

    assert (waiting, busy) == (2, 1)
    assert first > 0


async def test_what_goes_wrong_is_counted(desk: Desk) -> None:
    """An attempt that is returned, the message that comes again, and the letter at the end."""
    names = ("artmancer_redeliveries_total", "artmancer_dead_letters_total")
    before = {name: value(name) for name in names}
    returned = value("artmancer_attempts_total", outcome="returned")
    async with desk.manager(), desk.worker("tests.fakes:FailingEngine"):
        await desk.submit("j1")
        await desk.failed("j1")
        await wait_until(lambda: value("artmancer_dead_letters_total") > before[names[1]], "the letter is counted")

    assert value("artmancer_attempts_total", outcome="returned") - returned == 3
    assert value("artmancer_redeliveries_total", consumer="a100-interactive-white-balance") > 0
    assert value("artmancer_redeliveries_total") - before[names[0]] >= 2


async def test_requests_are_counted_by_template(client: Client) -> None:
    """The template is the label, because any client can choose the path."""
    for job_id in ("a", "b", "c"):
        await client.get(f"/v1/jobs/{job_id}")
    for path in ("/nowhere", "/etc/passwd"):
        await client.get(path)

    assert value("artmancer_http_requests_total", route="/v1/jobs/{job_id}", status="404") >= 3
    assert value("artmancer_http_requests_total", route="unmatched", status="404", method="GET") >= 2
    assert value("artmancer_http_request_seconds_count", route="/v1/jobs/{job_id}") >= 3
    assert "passwd" not in render_metrics().decode()


async def test_an_open_stream_is_one_while_it_is_read(client: Client) -> None:
    """And none when its reader has gone."""
    task = (await client.post("/api/generate/async", json=edit())).json()["task_id"]
    before = value("artmancer_sse_streams_open")
    async with await client.open_stream(f"/api/generate/stream/{task}") as stream:
        await stream.chunk()
        during = value("artmancer_sse_streams_open")
    await wait_until(lambda: value("artmancer_sse_streams_open") == before, "the stream is no longer counted")

    assert during == before + 1


FIRST = {
    "services.jobmanager.metrics": ("artmancer_jobs_ended_total", "artmancer_dead_letters_total"),
    "services.a100worker.metrics": ("artmancer_attempts_total", "artmancer_redeliveries_total"),
}


@pytest.mark.parametrize("module", FIRST)
def test_the_first_failure_is_an_increase(module: str) -> None:
    """The counters of alerts start at zero: Prometheus sees no increase in a series that starts at one."""
    code = f"import {module}; from shared.listener import render_metrics; print(render_metrics().decode())"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    for name in FIRST[module]:
        assert re.search(rf"^{name}{{.+}} 0\.0$", said, re.MULTILINE)


WITH_GPU = """
import sys
from types import SimpleNamespace
sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(
    is_initialized=lambda: True, device_count=lambda: 1, mem_get_info=lambda gpu: (30, 80),
    memory_allocated=lambda gpu: 40, memory_reserved=lambda gpu: 45,
))
import shared.metrics
from shared.listener import render_metrics
print(render_metrics().decode())
"""


def test_gpu_memory_is_read_from_the_torch_that_is_there() -> None:
    """Free and total, allocated and reserved by the process, in bytes; this torch is a stand-in."""
    said = subprocess.run([sys.executable, "-c", WITH_GPU], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r'^artmancer_gpu_memory_bytes{gpu="0",state="(\w+)"} (\S+)$', said, re.MULTILINE))

    assert found == {"free": "30.0", "total": "80.0", "allocated": "40.0", "reserved": "45.0"}


def test_without_a_gpu_there_is_no_gpu_memory() -> None:
    """And torch is not imported for it."""
    value("artmancer_gpu_memory_bytes")

    assert "\nartmancer_gpu_memory_bytes{" not in render_metrics().decode()
    assert "torch" not in sys.modules


def test_no_label_names_anybody() -> None:
    """A label for each owner or job would fill Prometheus and reveal the owners' activity."""
    labels = {label for family in REGISTRY.collect() for sample in family.samples for label in sample.labels}

    assert not labels & IDENTIFYING
