"""The metrics of a worker: attempts at jobs, and the time of their phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from shared.messages import JobClass, Task
from shared.metrics import REDELIVERIES
from shared.topology import worker_consumer

if TYPE_CHECKING:
    from collections.abc import Mapping

BUSY = Gauge("artmancer_worker_busy", "1 while the worker has a job")
WORKER = Gauge("artmancer_worker_info", "1 for the worker of this process", ("worker", "engine", "model", "device"))
ENGINE = Gauge("artmancer_engine_info", "1 for the engine that is loaded", ("engine",))
LOAD_SECONDS = Gauge("artmancer_engine_load_seconds", "Seconds that each phase of loading the engine took", ("phase",))
ATTEMPTS = Counter("artmancer_attempts", "Attempts at jobs, by how they ended here", ("task", "outcome"))
PHASE_SECONDS = Histogram(
    "artmancer_job_phase_seconds",
    "Seconds that an attempt took to fetch and decode, to edit, and to encode and store",
    ("task", "phase"),
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
STEP_SECONDS = Histogram(
    "artmancer_step_seconds",
    "Seconds between two steps of the engine",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64),
)

_OUTCOMES = ("done", "too-late", "cancelled", "refused", "returned")
# Start each series at zero: in a series that begins with its first event, Prometheus finds no increase.
for _task in Task:
    for _outcome in _OUTCOMES:
        ATTEMPTS.labels(_task, _outcome)
    for _job_class in JobClass:
        REDELIVERIES.labels(worker_consumer(_job_class, _task))


def observe_phases(task: str, timings_ms: Mapping[str, int]) -> None:
    """Record the duration of each phase of an attempt that has a result."""
    for phase, duration_ms in timings_ms.items():
        PHASE_SECONDS.labels(task, phase).observe(duration_ms / 1000)
