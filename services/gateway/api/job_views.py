"""How a job's state looks to the deployed client: its words, and its idea of progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.gateway.api.schemas import Status, Word
from shared.messages import Failed, JobState

if TYPE_CHECKING:
    from shared.messages import JobRecord

_ENDED: dict[JobState, Word] = {JobState.DONE: "done", JobState.FAILED: "error", JobState.CANCELLED: "cancelled"}
_LOADING, _LOADED, _LAST_STEP = 0.2, 0.3, 0.95


def status_of(record: JobRecord) -> Status:
    """Tell the state; steps are null until there is one, which is how the client knows that it is still preparing."""
    word = _word(record)
    stepping = word == "processing" and record.step is not None
    return Status(
        task_id=record.job_id,
        status=word,
        progress=round(_progress(record, word), 4),
        current_step=record.step if stepping else None,
        total_steps=record.total_steps if stepping else None,
        error=record.ended.message if isinstance(record.ended, Failed) else None,
        loading_message=record.message if record.ended is None else None,
    )


def _word(record: JobRecord) -> Word:
    if record.state is JobState.QUEUED:
        return "queued"
    if record.state is JobState.RUNNING:
        return "processing" if record.phase == "processing" else "loading_pipeline"
    return _ENDED[record.state]


def _progress(record: JobRecord, word: Word) -> float:
    if word == "done":
        return 1.0
    if word == "loading_pipeline":
        return _LOADING + (_LOADED - _LOADING) * record.fraction
    if word == "processing":
        steps_before = (record.step - 1) / record.total_steps if record.step and record.total_steps else 0.0
        return _LOADED + (_LAST_STEP - _LOADED) * steps_before
    return 0.0
