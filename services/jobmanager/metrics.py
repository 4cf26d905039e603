"""The metrics of the job manager, the only service that sees every job from its submission to its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from shared.messages import Cancelled, Done, Failed, Started, Task
from shared.metrics import REDELIVERIES
from shared.topology import DISPATCHERS, FAN_OUT, PROJECTOR, REAPER

if TYPE_CHECKING:
    from services.jobmanager.board import Board
    from shared.messages import JobClass, JobEvent, JobRecord

WAITING = Gauge("artmancer_jobs_waiting", "Accepted jobs that no worker has", ("job_class",))
OLDEST = Gauge("artmancer_jobs_oldest_wait_seconds", "Age of the oldest job that no worker has", ("job_class",))
RUNNING = Gauge("artmancer_jobs_running", "Jobs that a worker has", ("job_class",))
ENDED = Counter("artmancer_jobs_ended", "Jobs that have ended", ("task", "state"))
JOB_SECONDS = Histogram(
    "artmancer_job_seconds",
    "Seconds from the submission of a job to its result",
    ("task",),
    buckets=(0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600),
)
WAIT_SECONDS = Histogram(
    "artmancer_job_wait_seconds",
    "Seconds from the submission of a job to its first start",
    ("job_class",),
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900),
)
WEBHOOKS = Counter("artmancer_webhooks", "Attempts at deliveries of webhooks, and dropped deliveries", ("outcome",))
WEBHOOKS_WAITING = Gauge("artmancer_webhooks_waiting", "Deliveries of webhooks that have not succeeded yet")

# Start every series at zero: Prometheus sees no increase in a series that begins with its first event.
for _task in Task:
    for _end in (Done, Failed, Cancelled):
        ENDED.labels(_task, _end.model_fields["type"].default)
for _consumer in (*DISPATCHERS.values(), PROJECTOR, REAPER, FAN_OUT):
    REDELIVERIES.labels(_consumer)
for _outcome in ("delivered", "retry", "failed", "dropped"):
    WEBHOOKS.labels(_outcome)


def watch(job_class: JobClass, board: Board) -> None:
    """Read the board of a class at each scrape."""
    WAITING.labels(job_class).set_function(lambda: len(board.without_worker()))
    OLDEST.labels(job_class).set_function(lambda: _oldest_wait_s(board))
    RUNNING.labels(job_class).set_function(board.running_count)


def _oldest_wait_s(board: Board) -> float:
    now = time.time()
    return max((max(0.0, now - work.submit.submitted_at) for work in board.without_worker()), default=0.0)


def count(event: JobEvent, record: JobRecord) -> None:
    """Count an event that is new to the record of its job."""
    task = record.task or "unknown"
    if isinstance(event, Done | Failed | Cancelled):
        ENDED.labels(task, event.type).inc()
    if isinstance(event, Done):
        JOB_SECONDS.labels(task).observe(max(0.0, event.at - record.created_at))
    if isinstance(event, Started) and event.attempt == 1:
        WAIT_SECONDS.labels(record.job_class or "unknown").observe(max(0.0, event.at - record.created_at))
