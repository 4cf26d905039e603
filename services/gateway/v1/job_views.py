"""A job as /v1 takes and shows it, and how that follows from what is known of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, FiniteFloat

from services.gateway.v1 import examples
from services.gateway.v1.schemas import Picture, Resource, shown
from shared.messages import DEFAULT_GUIDANCE, DEFAULT_STEPS, Done, Failed, JobClass, JobState, Sha256, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.messages import JobRecord, JobSubmit

Text = Annotated[str, Field(max_length=10_000)]


class JobSubmission(Resource):
    """An edit. All pictures are named by the SHA-256 under which they were uploaded or found."""

    model_config = shown(examples.SUBMISSION)

    task: Task
    image: Sha256
    mask: Sha256 | None = Field(default=None, description="Where to edit; needed for removal and insertion.")
    reference: Sha256 | None = Field(default=None, description="What to insert; needed for insertion.")
    reference_mask: Sha256 | None = Field(default=None, description="Where in the reference the object is.")
    prompt: Text = ""
    negative_prompt: Text | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(default=None, description="Any, if missing.")
    steps: Annotated[int, Field(ge=1, le=100)] = DEFAULT_STEPS
    guidance: Annotated[FiniteFloat, Field(ge=0.5, le=20)] = DEFAULT_GUIDANCE
    strength: Annotated[FiniteFloat, Field(ge=0, le=1, description="Of a white balance.")] = 1.0
    mask_tool: Literal["brush", "box"] | None = None
    debug: bool = False
    job_class: JobClass = Field(default=JobClass.INTERACTIVE, alias="class")


class Links(Resource):
    """Where the rest is; `events` and `result` open without a key for some minutes."""

    model_config = shown(examples.LINKS)

    self_: str = Field(alias="self")
    events: str
    result: str
    receipt: str

    @classmethod
    def of(cls, job_id: str, signed: Callable[[str], str] = str) -> Links:
        """Return those of a job; `signed` lets a browser in where it cannot send a key."""
        here = f"/v1/jobs/{job_id}"
        events, result = signed(f"{here}/events"), signed(f"{here}/result")
        return cls(self_=here, events=events, result=result, receipt=f"{here}/receipt")


class AcceptedJob(Resource):
    """The job is logged; it runs even if nobody watches."""

    model_config = shown(examples.ACCEPTED)

    id: str
    status: JobState
    links: Links


class JobError(Resource):
    """Why there is no result."""

    model_config = shown({"code": "engine_failed", "message": "The engine could not finish this job."})

    code: str
    message: str


class Job(Resource):
    """Where a job stands."""

    model_config = shown(examples.DONE_JOB, examples.CANCELLED_JOB)

    id: str
    status: JobState
    task: Task | None
    job_class: JobClass | None = Field(alias="class")
    created_at: datetime
    updated_at: datetime
    progress: float = Field(ge=0, le=1)
    step: int | None
    total_steps: int | None
    message: str | None
    ahead: int | None = Field(description="Jobs that will start before this one.")
    eta_ms: int | None = Field(description="Until it is done, as far as that can be told.")
    attempt: int
    engine: str | None
    error: JobError | None
    result: Picture | None
    duration_ms: int | None
    links: Links

    @classmethod
    def of(cls, record: JobRecord, signed: Callable[[str], str] = str) -> Job:
        """Show the state of a job; `signed` as for its links."""
        end = record.ended
        done = end if isinstance(end, Done) else None
        step, total_steps = steps_of(record)
        return cls(
            id=record.job_id,
            status=record.state,
            task=record.task,
            job_class=record.job_class,
            created_at=moment(record.created_at),
            updated_at=moment(record.updated_at),
            progress=progress_of(record),
            step=step,
            total_steps=total_steps,
            message=record.message if end is None else None,
            ahead=record.ahead,
            eta_ms=record.eta_ms,
            attempt=record.attempt,
            engine=record.engine,
            error=JobError(code=end.code, message=end.message) if isinstance(end, Failed) else None,
            result=done and Picture.of(done.result),
            duration_ms=done and done.duration_ms,
            links=Links.of(record.job_id, signed),
        )


class JobPage(Resource):
    """A part of a listing, newest first."""

    model_config = shown(examples.JOB_PAGE)

    jobs: list[Job]
    next_cursor: str | None = Field(description="For the next part; null: there is none.")


class Receipt(Resource):
    """What is certified about a result: the SHA-256 of what went in and came out, and what was done."""

    model_config = shown(examples.RECEIPT)

    id: str
    task: Task | None
    inputs: dict[str, Sha256] = Field(description="Empty if the log has forgotten the order.")
    output: Sha256
    seed: int
    steps: int | None
    engine: str
    worker: str
    attempt: int
    pixels_changed_outside_mask: int
    timings_ms: dict[str, int]
    created_at: datetime
    finished_at: datetime
    replay_of: str | None

    @classmethod
    def of(cls, record: JobRecord, done: Done, order: JobSubmit | None) -> Receipt:
        """Certify how the job went; `order` is what was asked for, as long as that is known."""
        return cls(
            id=record.job_id,
            task=record.task,
            inputs=order.image_hashes() if order else {},
            output=done.result.sha256,
            seed=done.seed,
            steps=order.steps if order else None,
            engine=done.engine,
            worker=done.worker,
            attempt=done.attempt,
            pixels_changed_outside_mask=done.changed_outside_px,
            timings_ms=done.timings_ms,
            created_at=moment(record.created_at),
            finished_at=moment(done.at),
            replay_of=record.replay_of,
        )


def progress_of(record: JobRecord) -> float:
    """Tell how much of the edit is done, 0 to 1; loading counts as nothing."""
    match record.ended:
        case None:
            return record.fraction if record.phase == "processing" else 0.0
        case Done():
            return 1.0
    step, total = steps_of(record)
    return step / total if step and total else 0.0


def steps_of(record: JobRecord) -> tuple[int | None, int | None]:
    """Return the step and how many there are; neither before the first, as the engine decides how many.

    Of an end only what itself tells, because steps are forgotten before it is.
    """
    source = record if record.ended is None else record.ended
    if isinstance(source, Done | Failed) or source.step is None:
        return None, None
    return source.step, source.total_steps


def moment(seconds: float) -> datetime:
    """Turn seconds since the epoch into a date."""
    return datetime.fromtimestamp(seconds, UTC)
