"""Job bodies of /v1."""

from __future__ import annotations

import pytest

from services.gateway.v1.job_views import job_of, progress_of, receipt_of
from services.gateway.v1.results.chains import Known, Step
from shared.messages import Cancelled, Done, Failed, ImageRef, JobRecord, JobState, JobSubmit, Task, Terminal

RESULT = ImageRef(bucket="results", sha256="a" * 64, content_type="image/png", width=4, height=3, size_bytes=99)
DONE = Done(
    job_id="j1", at=2.5, worker="w1", engine="e1", attempt=2, result=RESULT, duration_ms=1500, seed=7,
    changed_outside_px=0, timings_ms={"edit": 9},
)  # fmt: skip
FAILED = Failed(job_id="j1", code="engine_failed", message="It broke.")


def record(state: JobState = JobState.RUNNING, ended: Terminal | None = None, **changes: object) -> JobRecord:
    """Return a job at step 2 of 4."""
    facts = {
        "job_id": "j1", "user": "u1", "state": state, "ended": ended, "task": Task.REMOVAL, "job_class": "batch",
        "phase": "processing", "fraction": 0.5, "step": 2, "total_steps": 4, "message": "Painting", "created_at": 1.0,
        "updated_at": 2.5, "last_seq": 9, **changes,
    }  # fmt: skip
    return JobRecord.model_validate(facts)


def test_a_running_job_tells_its_steps() -> None:
    """The message and the progress are included."""
    job = job_of(record())

    assert (job.status, job.step, job.total_steps, job.message, job.progress) == ("running", 2, 4, "Painting", 0.5)
    assert (job.result, job.error, job.duration_ms) == (None, None, None)


def test_loading_is_no_progress() -> None:
    """Loading can take a minute and does no part of the edit."""
    assert progress_of(record(phase="loading", fraction=0.9)) == 0.0


def test_a_done_job_has_its_result() -> None:
    """The message is removed."""
    job = job_of(record(JobState.DONE, DONE))

    assert job.result is not None
    assert job.result.model_dump() == {
        "sha256": "a" * 64, "width": 4, "height": 3, "content_type": "image/png", "bytes": 99, "notes": []
    }  # fmt: skip
    assert (job.progress, job.duration_ms, job.message) == (1.0, 1500, None)


def test_a_failed_job_says_why() -> None:
    """The error has a code for programs and a sentence for people."""
    job = job_of(record(JobState.FAILED, FAILED))

    assert job.error is not None
    assert job.error.model_dump() == {"code": "engine_failed", "message": "It broke."}
    assert job.progress == 0.0


def test_before_the_first_step_there_are_none() -> None:
    """The submission's steps are not used: each engine has its own number."""
    job = job_of(record(step=None, total_steps=15, fraction=0.0))

    assert (job.step, job.total_steps) == (None, None)


@pytest.mark.parametrize(("step", "total", "progress"), [(1, 4, 0.25), (None, None, 0.0)])
def test_a_cancelled_job_tells_how_far_it_had_come(step: int | None, total: int | None, progress: float) -> None:
    """Only the terminal event is used, so a listing, which has no steps, shows the same."""
    end = Cancelled(job_id="j1", step=step, total_steps=total or 15)
    fresh = job_of(record(JobState.CANCELLED, end))
    listed = job_of(record(JobState.CANCELLED, end, fraction=0.0, step=None, total_steps=15))

    assert fresh == listed
    assert (fresh.step, fresh.total_steps, fresh.progress, fresh.error) == (step, total, progress, None)


def test_dates_are_written_for_every_program() -> None:
    """Dates are RFC 3339 in UTC, and the field names are those of the API."""
    written = job_of(record()).model_dump(mode="json", by_alias=True)

    assert written["created_at"] == "1970-01-01T00:00:01Z"
    assert written["updated_at"] == "1970-01-01T00:00:02.500000Z"
    assert (written["class"], written["links"]["self"]) == ("batch", "/v1/jobs/j1")


def test_a_receipt_names_what_went_in_and_came_out() -> None:
    """Images are named by their hash."""
    order = JobSubmit(task=Task.REMOVAL, image="b" * 64, mask="c" * 64, steps=20)

    receipt = receipt_of(record(JobState.DONE, DONE, replay_of="j0"), DONE, order)

    assert receipt.inputs == {"image": "b" * 64, "mask": "c" * 64}
    assert (receipt.output, receipt.seed, receipt.steps, receipt.replay_of) == ("a" * 64, 7, 20, "j0")


def test_a_receipt_names_the_recipe_the_windows_and_the_adapters_of_a_model() -> None:
    """Of an engine without them, and of a job that ended before they were recorded, nothing."""
    done = DONE.model_copy(
        update={
            "recipe": "adapter",
            "windows": [(0, 0, 512, 512)],
            "adapters": {"removal": "d" * 64},
            "source_type": "urn:a",
            "changed_box": (1, 2, 3, 4),
        }
    )

    receipt, plain = (receipt_of(record(JobState.DONE, end), end, None) for end in (done, DONE))

    assert (receipt.recipe, receipt.windows, receipt.adapters, receipt.digital_source_type) == (
        "adapter",
        [(0, 0, 512, 512)],
        {"removal": "d" * 64},
        "urn:a",
    )
    assert (receipt.changed_box, plain.changed_box) == ((1, 2, 3, 4), None)
    assert (plain.recipe, plain.windows, plain.adapters, plain.digital_source_type) == (None, [], {}, None)


def test_a_receipt_can_be_written_without_the_order() -> None:
    """The submission expires in the log after a week."""
    receipt = receipt_of(record(JobState.DONE, DONE), DONE, None)

    assert (receipt.inputs, receipt.steps, receipt.pixels_changed_outside_mask) == ({}, None, 0)


@pytest.mark.parametrize(("sent", "shown"), [(None, 0), (0, 0), (1, 1)])
def test_the_receipt_names_the_variant(sent: int | None, shown: int) -> None:
    """A submission without one is the first try; without the submission it is unknown."""
    ended = record(JobState.DONE, DONE)

    assert receipt_of(ended, DONE, JobSubmit(task=Task.REMOVAL, image="b" * 64, variant=sent)).variant == shown
    assert receipt_of(ended, DONE, None).variant is None


def test_the_receipt_names_the_sliders_of_a_white_balance() -> None:
    """For other tasks they mean nothing."""
    ended = record(JobState.DONE, DONE)
    balance = JobSubmit(task=Task.WHITE_BALANCE, image="b" * 64, strength=0.5, temperature=-20)

    receipts = [receipt_of(ended, DONE, sent) for sent in (balance, JobSubmit(task=Task.REMOVAL, image="b" * 64), None)]

    assert [(receipt.strength, receipt.temperature) for receipt in receipts] == [(0.5, -20), (None, None), (None, None)]


def test_the_receipt_names_the_edits_before_it() -> None:
    """A step that is not known any more has its hash and a note."""
    order = JobSubmit(task=Task.REMOVAL, image="b" * 64, mask="c" * 64, variant=1)
    known = Step("a" * 64, Known(record(JobState.DONE, DONE), DONE, order))

    receipt = receipt_of(record(JobState.DONE, DONE), DONE, order, [known, Step("b" * 64, note="It has expired.")])

    first, lost = receipt.earlier
    assert (first.id, first.inputs["image"], first.output, first.variant, first.note) == (
        "j1", "b" * 64, "a" * 64, 1, None,
    )  # fmt: skip
    assert lost.model_dump(exclude_defaults=True) == {"output": "b" * 64, "note": "It has expired."}
