"""Converts job records to the deployed client's status words and progress."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.gateway.access.forwarded import public_path
from services.gateway.api.schemas import JobMetadata, ResultImage, Status
from shared.messages import Failed, JobState

if TYPE_CHECKING:
    from services.gateway.api.schemas import StatusWord
    from shared.messages import Done, JobRecord

_LOADING, _LOADED, _LAST_STEP = 0.2, 0.3, 0.95


def status_of(record: JobRecord) -> Status:
    """Return the job's state. The steps are null before the first one: the client then shows "preparing"."""
    word = _status_word(record)
    has_step = word == "processing" and record.step is not None
    return Status(
        task_id=record.job_id,
        status=word,
        progress=round(_progress(record, word), 4),
        current_step=record.step if has_step else None,
        total_steps=record.total_steps if has_step else None,
        error=record.ended.message if isinstance(record.ended, Failed) else None,
        loading_message=record.message if record.ended is None else None,
    )


def metadata_of(record: JobRecord, done: Done) -> JobMetadata:
    """Return the metadata for the archive of a finished job."""
    ref = done.result
    return JobMetadata(
        id=record.job_id,
        status=record.state,
        task=record.task,
        job_class=record.job_class,
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        updated_at=datetime.fromtimestamp(record.updated_at, UTC),
        attempt=record.attempt,
        engine=record.engine,
        result=ResultImage(
            sha256=ref.sha256, width=ref.width, height=ref.height, content_type=ref.content_type, bytes=ref.size_bytes
        ),
        duration_ms=done.duration_ms,
        links={
            "self": public_path(f"/v1/jobs/{record.job_id}"),
            "events": public_path(f"/v1/jobs/{record.job_id}/events"),
            "result": public_path(f"/v1/jobs/{record.job_id}/result"),
            "receipt": public_path(f"/v1/jobs/{record.job_id}/receipt"),
        },
    )


def _status_word(record: JobRecord) -> StatusWord:
    match record.state:
        case JobState.QUEUED:
            return "queued"
        case JobState.RUNNING:
            return "processing" if record.phase == "processing" else "loading_pipeline"
        case JobState.DONE:
            return "done"
        case JobState.FAILED:
            return "error"
        case JobState.CANCELLED:
            return "cancelled"


def _progress(record: JobRecord, word: StatusWord) -> float:
    if word == "done":
        return 1.0
    if word == "loading_pipeline":
        return _LOADING + (_LOADED - _LOADING) * record.fraction
    if word == "processing":
        finished = (record.step - 1) / record.total_steps if record.step and record.total_steps else 0.0
        return _LOADED + (_LAST_STEP - _LOADED) * finished
    return 0.0
