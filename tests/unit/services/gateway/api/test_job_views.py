"""Job states in the deployed client's format."""

from __future__ import annotations

import pytest

from services.gateway.api.job_views import status_of
from shared.messages import Cancelled, Failed, JobRecord, JobState


def record(**fields: object) -> JobRecord:
    base = {"job_id": "j1", "user": "local", "state": JobState.QUEUED, "created_at": 1, "updated_at": 2, "last_seq": 3}
    return JobRecord.model_validate({**base, "total_steps": 10, **fields})


def test_a_queued_job_has_made_no_progress() -> None:
    """The number of steps is known, but left out: the client would show it as a step."""
    status = status_of(record())

    assert (status.status, status.progress, status.current_step, status.total_steps) == ("queued", 0, None, None)


@pytest.mark.parametrize(("fraction", "progress"), [(0.0, 0.2), (0.5, 0.25), (1.0, 0.3)])
def test_loading_goes_from_a_fifth_to_three_tenths(fraction: float, progress: float) -> None:
    """As the contract requires."""
    status = status_of(record(state="running", phase="loading", fraction=fraction))

    assert (status.status, status.progress) == ("loading_pipeline", progress)


@pytest.mark.parametrize(("step", "progress"), [(None, 0.3), (1, 0.3), (6, 0.625), (10, 0.885)])
def test_steps_share_the_next_two_thirds(step: int | None, progress: float) -> None:
    """A finished step counts; before the first step the worker is preparing."""
    status = status_of(record(state="running", phase="processing", step=step, message="Blending"))

    assert (status.status, status.progress, status.current_step) == ("processing", progress, step)
    assert status.total_steps == (10 if step else None)
    assert status.loading_message == "Blending"


def test_a_failure_tells_why() -> None:
    """Steps and messages are left out."""
    end = Failed(job_id="j1", code="engine_failed", message="It broke.")
    status = status_of(record(state="failed", ended=end, step=3, message="Blending"))

    assert (status.status, status.error, status.progress) == ("error", "It broke.", 0)
    assert (status.current_step, status.loading_message) == (None, None)


def test_a_cancel_is_no_error() -> None:
    """The client would show the text of `error`."""
    status = status_of(record(state="cancelled", ended=Cancelled(job_id="j1", step=3)))

    assert (status.status, status.error) == ("cancelled", None)
