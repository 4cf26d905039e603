"""Converts job records to the bodies of /v1."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from services.gateway.access.forwarded import public_path
from services.gateway.v1.schemas import EarlierEdit, Image, Job, JobError, Links, Receipt
from shared.messages import Cancelled, Done, Failed, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.gateway.v1.results.chains import Step
    from shared.messages import ImageRef, JobRecord, JobSubmit


def image_of(ref: ImageRef) -> Image:
    """Return the body for a stored image."""
    return Image(
        sha256=ref.sha256,
        width=ref.width,
        height=ref.height,
        content_type=ref.content_type,
        bytes=ref.size_bytes,
        notes=ref.notes or [],
    )


def links_of(job_id: str, sign: Callable[[str], str] = str) -> Links:
    """Return the job's links; `sign` makes a path work for browser elements that cannot send a key."""
    path = f"/v1/jobs/{job_id}"
    events, result = public_path(sign(f"{path}/events")), public_path(sign(f"{path}/result"))
    return Links(self_=public_path(path), events=events, result=result, receipt=public_path(f"{path}/receipt"))


def job_of(record: JobRecord, sign: Callable[[str], str] = str) -> Job:
    """Return the body for a job's state; `sign` as for `links_of`."""
    end = record.ended
    done = end if isinstance(end, Done) else None
    step, total_steps = steps_of(record)
    return Job(
        id=record.job_id,
        status=record.state,
        task=record.task,
        job_class=record.job_class,
        created_at=_datetime(record.created_at),
        updated_at=_datetime(record.updated_at),
        progress=progress_of(record),
        step=step,
        total_steps=total_steps,
        message=record.message if end is None else None,
        ahead=record.ahead,
        eta_ms=record.eta_ms,
        attempt=record.attempt,
        engine=record.engine,
        error=JobError(code=end.code, message=end.message) if isinstance(end, Failed) else None,
        result=done and image_of(done.result),
        duration_ms=done and done.duration_ms,
        links=links_of(record.job_id, sign),
    )


def receipt_of(record: JobRecord, done: Done, submission: JobSubmit | None, earlier: Sequence[Step] = ()) -> Receipt:
    """Return the receipt of a finished job; `submission` is None if it has expired in the log."""
    return Receipt(
        **_facts_of(record, done, submission),
        steps=submission.steps if submission else None,
        worker=done.worker,
        attempt=done.attempt,
        recipe=done.recipe,
        windows=done.windows,
        adapters=done.adapters,
        timings_ms=done.timings_ms,
        notes=done.notes or [],
        created_at=_datetime(record.created_at),
        replay_of=record.replay_of,
        earlier=[_earlier_of(step) for step in earlier],
    )


def _earlier_of(step: Step) -> EarlierEdit:
    facts: dict[str, Any] = {"output": step.output} if step.known is None else _facts_of(*step.known)
    return EarlierEdit(**facts, note=step.note)


def _facts_of(record: JobRecord, done: Done, submission: JobSubmit | None) -> dict[str, Any]:
    """Return the facts about an edit, for its own receipt and for the receipts of later edits."""
    balance = submission if submission and submission.task is Task.WHITE_BALANCE else None
    return {
        "id": record.job_id,
        "task": record.task,
        "inputs": submission.image_hashes() if submission else {},
        "output": done.result.sha256,
        "seed": done.seed,
        "variant": (submission.variant or 0) if submission else None,
        "strength": balance.strength if balance else None,
        "temperature": (balance.temperature or 0.0) if balance else None,
        "engine": done.engine,
        "pixels_changed_outside_mask": done.changed_outside_px,
        "changed_box": done.changed_box,
        "digital_source_type": done.source_type,
        "finished_at": _datetime(done.at),
    }


def write_receipt(record: JobRecord, done: Done, submission: JobSubmit | None, earlier: Sequence[Step]) -> bytes:
    """Return the receipt as JSON: these bytes are sent, and a signed result names their hash."""
    return receipt_of(record, done, submission, earlier).model_dump_json(by_alias=True).encode()


def progress_of(record: JobRecord) -> float:
    """Return the finished fraction of the edit, 0 to 1; loading does not count."""
    match record.ended:
        case None:
            return record.fraction if record.phase == "processing" else 0.0
        case Done():
            return 1.0
        case Failed() | Cancelled():
            step, total = steps_of(record)
            return min(step / total, 1.0) if step and total else 0.0


def steps_of(record: JobRecord) -> tuple[int | None, int | None]:
    """Return the current step and the number of steps; (None, None) before the first step, when the engine decides.

    For an ended job use only its terminal event; progress events expire earlier.
    """
    source = record if record.ended is None else record.ended
    if isinstance(source, Done | Failed) or source.step is None:
        return None, None
    return source.step, source.total_steps


def _datetime(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
