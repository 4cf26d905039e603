"""All messages between the services: frozen, versioned models. They contain facts and references, never pixels.

An image is the SHA-256 of its bytes, in the object bucket that the field's comment names. An unknown field comes from a
newer release or from a typing error: it is kept, passed on and logged. A message that breaks its schema becomes a dead
letter. New fields need defaults; `v` rises only if older consumers must not act on a message. Jobs come first, then
segmentation, image utilities and health.
"""

from __future__ import annotations

import operator
import time
from enum import StrEnum
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from shared import versions
from shared.subjects import TOKEN

# A field that is new since release 0.1.0, which refuses unknown fields, is left out where it has nothing to state.
_is_empty = operator.not_
_NAMES, _NAME_LENGTH = 16, 100
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Token = Annotated[str, Field(pattern=f"^{TOKEN}$")]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Timestamp = Annotated[float, Field(ge=0, le=253_402_300_799)]
"""Seconds since the epoch, up to the year 9999, the last one that a datetime can hold."""
Point = tuple[float, float]
"""x, y in pixels of the upright image, origin top left."""
Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of the upright image."""


class Message(BaseModel):
    """Base of all messages. No service reads all of them: the schema of one is built at its first use."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, defer_build=True)  # JSON has no NaN

    v: Literal[1] = 1

    @model_validator(mode="after")
    def _report_unknown_fields(self) -> Self:  # here, so that no reader can forget it
        if names := self.unknown_fields():
            versions.report_unknown(type(self).__name__, names)
        return self

    def unknown_fields(self) -> list[str]:
        """Return the names of the fields that this release does not know, at most 16. The sender chose them."""
        return [name[:_NAME_LENGTH] for name in sorted(self.model_extra or {})[:_NAMES]]


DEFAULT_STEPS, DEFAULT_GUIDANCE = 15, 4.0


class Task(StrEnum):
    """The kind of an edit."""

    REMOVAL = "removal"
    """Fill the marked region to match its surroundings."""
    INSERTION = "insertion"
    """Insert the object of the reference image into the marked region."""
    WHITE_BALANCE = "white-balance"
    """Remove the colour cast of the whole image."""


class JobClass(StrEnum):
    """The priority of a job."""

    INTERACTIVE = "interactive"
    """A person waits for the result: runs first."""
    BATCH = "batch"
    """Runs when no interactive job waits."""


class ImageRef(Message):
    """A stored image."""

    bucket: Literal["inputs", "results", "cache", "debug"]
    sha256: Sha256
    content_type: str
    width: int = Field(ge=1, le=2**31 - 1)
    height: int = Field(ge=1, le=2**31 - 1)
    size_bytes: int = Field(ge=1, le=2**63 - 1)
    notes: list[str] | None = None  # the parts of the file that are not edited or not kept


class JobSubmit(Message):
    """A job as it was submitted; its class, owner and id are in the subject."""

    type: Literal["job.submit"] = "job.submit"
    task: Task
    image: Sha256  # bucket inputs, as are the next three
    mask: Sha256 | None = None
    reference: Sha256 | None = None
    reference_mask: Sha256 | None = None
    prompt: Annotated[str, Field(max_length=10_000)] = ""
    negative_prompt: Annotated[str, Field(max_length=10_000)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 42
    steps: Annotated[int, Field(ge=1, le=100)] = DEFAULT_STEPS
    guidance: Annotated[float, Field(ge=0.5, le=20)] = DEFAULT_GUIDANCE
    mask_tool: Literal["brush", "box"] | None = None
    exact_mask: bool | None = None  # true: nothing changes outside the mask, not even a soft rim or a shadow
    variant: Annotated[int, Field(ge=0, le=1)] | None = None  # removal: 1 fills in another way
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0  # white balance: 0 changes nothing
    temperature: Annotated[float, Field(ge=-100, le=100)] | None = None  # white balance: positive is warmer
    refine_fill: bool = True
    flow_match: bool = False
    debug: bool = False
    submitted_at: Timestamp = Field(default_factory=time.time)  # seconds since the epoch
    traceparent: str | None = None

    def image_hashes(self) -> dict[str, str]:
        """Return the hashes of the images that the job needs, by field; `image` comes first."""
        names = ("image", "mask", "reference", "reference_mask")
        return {name: sha256 for name in names if (sha256 := getattr(self, name)) is not None}


class JobWork(Message):
    """A job that waits for a worker, in JOB_Q."""

    type: Literal["job.work"] = "job.work"
    job_id: Token
    user: Token
    job_class: JobClass
    log_seq: Count  # of the submission, in JOB_LOG
    replay_of: Token | None = None
    again: bool = False  # queued again after JOB_Q was lost; it may have been tried before
    submit: JobSubmit


class _JobEvent(Message):
    job_id: Token
    at: Timestamp = Field(default_factory=time.time)  # seconds since the epoch


class Queued(_JobEvent):
    """The job waits for a worker."""

    type: Literal["queued"] = "queued"
    user: Token
    task: Task
    job_class: JobClass
    log_seq: Count
    replay_of: Token | None = None
    total_steps: Count
    debug: bool = False
    ahead: Count | None = None  # jobs that will start before this one
    eta_ms: Count | None = None  # until it is done, from measured durations
    ignored_fields: list[str] | None = None  # of the submission: unknown to the job manager, perhaps misspelt


class Started(_JobEvent):
    """A worker started the job; without a `returned` before it, the worker of the attempt before died."""

    type: Literal["started"] = "started"
    worker: Token
    engine: str
    attempt: int = Field(ge=1, le=2**63 - 1)


class Returned(_JobEvent):
    """The job is to run again: after an error, its worker's stop (`stopping`, not an attempt) or loss (`vanished`)."""

    type: Literal["returned"] = "returned"
    worker: Token
    attempt: int = Field(ge=1, le=2**63 - 1)
    reason: Token
    message: str | None = None  # for people


class Progress(_JobEvent):
    """The job reached a step, sent once each; `loading` has a message instead of steps."""

    type: Literal["progress"] = "progress"
    phase: Literal["loading", "processing"]
    step: Count | None = None  # 1-based
    total_steps: Count | None = None
    fraction: float = Field(ge=0, le=1)  # of the phase
    message: str | None = None
    eta_ms: Count | None = None


class Preview(_JobEvent):
    """A small preview of the unfinished image."""

    type: Literal["preview"] = "preview"
    step: Count
    jpeg_base64: Annotated[str, Field(max_length=28_000)]  # room for MAX_BYTES of the worker's previews.py


class Done(_JobEvent):
    """Terminal: the result is stored."""  # its fields become those of a receipt: gateway/v1/schemas.Receipt

    type: Literal["done"] = "done"
    worker: Token
    engine: str
    attempt: Count
    result: ImageRef  # bucket results
    duration_ms: Count
    seed: Count
    changed_outside_px: Count  # pixels outside the engine's region that differ from the upload
    timings_ms: dict[str, Count] = Field(default_factory=dict)
    debug: str | None = None  # the name of a debug session
    recipe: str | None = None  # the images and words for the model; None: the engine has no recipes
    # painted: x, y, width, height in pixels
    windows: list[tuple[int, int, int, int]] = Field(default_factory=list, exclude_if=_is_empty)
    adapters: dict[str, Sha256] = Field(default_factory=dict, exclude_if=_is_empty)  # that were on
    changed_box: tuple[Count, Count, Count, Count] | None = None  # with all changes: x, y, width, height; None: unknown
    patch: ImageRef | None = None  # bucket results: the part of the result in that box
    source_type: str | None = None  # the IPTC address that the result states, see shared/source_types.py
    notes: list[str] | None = None  # the losses between the inputs and the result


class Failed(_JobEvent):
    """Terminal: there is no result, because of this error."""

    type: Literal["failed"] = "failed"
    code: str
    message: str
    attempt: Count = 0


class Cancelled(_JobEvent):
    """Terminal: the job was cancelled."""

    type: Literal["cancelled"] = "cancelled"
    step: Count | None = None  # the last step that was reached
    total_steps: Count | None = None


Terminal: TypeAlias = Done | Failed | Cancelled
JobEvent: TypeAlias = Annotated[
    Queued | Started | Returned | Progress | Preview | Done | Failed | Cancelled, Field(discriminator="type")
]
JOB_EVENT: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)


class Attempt(Message):
    """One attempt at a job that did not end it."""

    number: Count
    worker: Token
    started_at: Timestamp
    ended_at: Timestamp | None = None
    outcome: Token  # the reason of its return; `vanished`: the worker died without one


class DeadLetter(Message):
    """A job that could not run, with everything that is needed to understand it and to run it again."""

    type: Literal["job.dead"] = "job.dead"
    job_id: Token
    reason: Token
    message: str
    attempts: Count
    history: list[Attempt] = Field(default_factory=list)
    log_seq: Count | None = None
    work: JobWork | None = None
    raw: str | None = None  # the message, if it could not be parsed
    at: Timestamp = Field(default_factory=time.time)


class DebugImage(Message):
    """One labelled image of a debug session (bucket debug)."""

    label: str
    sha256: Sha256
    width: Count
    height: Count


class DebugSession(Message):
    """The inputs and intermediate images of an edit that was submitted with `debug` (bucket `sessions`)."""

    name: Annotated[str, Field(pattern=r"^[0-9]{8}_[0-9]{6}_[0-9]{8}$")]
    job_id: Token
    user: Token
    created_at: Timestamp
    engine: str
    duration_ms: Count
    submit: JobSubmit
    result: ImageRef
    images: list[DebugImage]


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    """Accepted; no worker runs it."""
    RUNNING = "running"
    """A worker runs it."""
    DONE = "done"
    """The result is stored."""
    FAILED = "failed"
    """It ended without a result."""
    CANCELLED = "cancelled"
    """It was cancelled."""


class JobRecord(Message):
    """The state of a job, folded from its events (bucket `jobs`). A view; the events decide."""

    job_id: Token
    user: Token
    state: JobState
    task: Task | None = None
    job_class: JobClass | None = None
    debug: bool = False
    log_seq: Count | None = None
    replay_of: Token | None = None
    worker: Token | None = None
    engine: str | None = None
    attempt: Count = 0
    phase: Literal["loading", "processing"] | None = None
    step: Count | None = None
    total_steps: Count | None = None
    fraction: float = Field(default=0.0, ge=0, le=1)
    message: str | None = None
    ahead: Count | None = None
    eta_ms: Count | None = None
    ended: Terminal | None = Field(default=None, discriminator="type")
    created_at: Timestamp
    updated_at: Timestamp
    last_seq: Count  # of the newest event that is folded in, in JOB_EV


class QueueQuery(Message):
    """Request the waiting jobs from the job manager."""

    type: Literal["job.queue"] = "job.queue"


class QueueReport(Message):
    """The ids of the jobs that wait for a worker, by owner."""

    queued: dict[Token, list[Token]] = Field(default_factory=dict)


class ReplayRequest(Message):
    """Run logged jobs again, each as a new job with the same inputs and seed."""

    type: Literal["job.replay"] = "job.replay"
    from_seq: int = Field(ge=1, le=2**63 - 1)  # in JOB_LOG
    to_seq: Count | None = None  # inclusive; default: only from_seq
    job_class: JobClass | None = None  # default: the class of the original
    dry_run: bool = False


class RedriveRequest(Message):
    """Run the jobs of dead letters again, each as a new job."""

    type: Literal["job.redrive"] = "job.redrive"
    job_id: Token | None = None  # default: all that can run
    job_class: JobClass | None = None
    dry_run: bool = False


class ReplayedJob(Message):
    """One job of a replay or of its dry run."""

    log_seq: Count | None = None  # None: a dead letter without a submission
    job_id: Token
    new_job_id: Token | None = None  # None until it is logged
    problem: str | None = None  # the reason it cannot run again


class ReplayReply(Message):
    """The replayed jobs, in the order of the log."""

    dry_run: bool
    jobs: list[ReplayedJob]


class TaskAbility(Message):
    """The parameters that an engine obeys in one task, and the time of its last jobs."""

    parameters: list[str]  # names of fields of JobSubmit
    typical_ms: Count | None = None  # the median of the last jobs; None: this worker has done none


class WorkerAbilities(Message):
    """The abilities of one worker. Sent when it is ready, and again every two seconds while it lives."""

    type: Literal["worker.abilities"] = "worker.abilities"
    worker: Token
    engine: str
    tasks: dict[Task, TaskAbility]
    model: str | None = None  # the checkpoint, e.g. Qwen-Image-Edit-2511; None: the engine has none
    device: str | None = None  # of the engine: cpu, cuda
    job: Token | None = None  # that it runs
    state: Literal["loading", "ready", "draining", "stopped"] = "ready"


class DrainRequest(Message):
    """Take one worker out after its job; it takes none until it is restarted."""

    type: Literal["worker.drain"] = "worker.drain"


class DrainReply(Message):
    """The worker takes no further job."""

    worker: Token
    job: Token | None = None  # that it still finishes
    again: bool = False  # whether it was drained before


class Stroke(Message):
    """A freehand line."""

    points: Annotated[list[Point], Field(min_length=1, max_length=5_000)]
    radius_px: float = Field(default=8.0, gt=0, le=2_000)
    positive: bool = True


class MaskRequest(Message):
    """Find the object at a prompt. Precedence: points and box, then strokes, then mask, then auto."""

    type: Literal["seg.mask"] = "seg.mask"
    request_id: Token
    image: Sha256  # bucket inputs
    engine: Literal["default", "sam", "fastsam", "birefnet", "grabcut"] = "default"
    points: Annotated[list[tuple[float, float, Literal[0, 1]]], Field(max_length=64)] = Field(default_factory=list)
    previous: Sha256 | None = None  # bucket inputs: the mask that the last point corrects
    box: Box | None = None
    strokes: Annotated[list[Stroke], Field(max_length=64)] = Field(default_factory=list)
    mask: Sha256 | None = None  # bucket inputs: a guidance mask, any size
    auto: bool = False
    grow_px: Annotated[int, Field(ge=-200, le=200)] = 0
    feather_px: Annotated[float, Field(ge=0, le=200)] = 0.0
    candidates: Annotated[int, Field(ge=1, le=5)] = 1
    measures: bool | None = None  # reply with box and area of each mask; release 0.1.0 refuses these fields


class Mask(Message):
    """One candidate: a greyscale PNG of the image's size, 255 inside."""

    png: ImageRef  # bucket cache
    score: float = Field(ge=0, le=1)
    box: tuple[int, int, int, int] | None = None  # of the white pixels: x0, y0, x1, y1; the last two are exclusive
    area: float | None = Field(default=None, ge=0, le=1)  # of the white pixels, as a share of the image


class MaskReply(Message):
    """The best mask first."""

    masks: Annotated[list[Mask], Field(min_length=1)]
    engine: str
    note: str | None = None  # e.g. the reason the coarse method was used


class OutlineRequest(Message):
    """Outline the object at a point, from cached outputs of the networks alone."""

    type: Literal["seg.outline"] = "seg.outline"
    request_id: Token
    image: Sha256  # bucket inputs
    engine: Literal["default", "sam", "fastsam", "birefnet", "grabcut"] = "default"
    point: Point


class OutlineReply(Message):
    """The outline, or the reason that there is none. Nothing is stored."""

    status: Literal["found", "nothing", "not-seen"]  # not-seen: no mask of this image was computed lately
    outline: list[list[Point]] = Field(default_factory=list)  # closed polygons in image pixels; a hole is one too
    score: float = Field(default=0.0, ge=0, le=1)
    engine: str


class SaliencyRequest(Message):
    """Request the saliency map of an image."""

    type: Literal["seg.saliency"] = "seg.saliency"
    image: Sha256  # bucket inputs


class SaliencyReply(Message):
    """A greyscale PNG of the image's size (bucket cache); None without weights."""

    png: ImageRef | None = None


class Patch(Message):
    """The changed rectangle of an edit, at its place in the picture."""

    image: ImageRef  # bucket results
    x: Count
    y: Count


class AssembleRequest(Message):
    """Assemble a result whose bytes were evicted: lay the patches in order over the image before the edits."""

    type: Literal["img.assemble"] = "img.assemble"
    result: ImageRef  # as the end of its job states it
    base: ImageRef  # bucket inputs or results
    patches: Annotated[list[Patch], Field(min_length=1, max_length=64)]


class ExtractRequest(Message):
    """Cut an object out and fit it into a square."""

    type: Literal["img.extract"] = "img.extract"
    image: Sha256  # bucket inputs
    mask: Sha256  # bucket inputs
    transparent: bool = Field(default=False, exclude_if=_is_empty)  # the ground; else white
    in_place: bool | None = None  # on a transparent ground of the photo's size, where it stood, instead of in a square


class ShadowRequest(Message):
    """Render an extracted object with a soft shadow on a light background."""

    type: Literal["img.shadow"] = "img.shadow"
    image: Sha256  # bucket inputs
    mask: Sha256 | None = None  # bucket inputs; default: all pixels that are not white
    offset_x_px: Annotated[int, Field(ge=-500, le=500)] = 3
    offset_y_px: Annotated[int, Field(ge=-500, le=500)] = 5
    opacity: Annotated[float, Field(ge=0, le=1)] = 0.4
    blur_px: Annotated[int, Field(ge=1, le=501)] = 21


class WhiteBalanceRequest(Message):
    """Correct the colour cast: `manual` by temperature and tint, `auto` by estimation."""

    type: Literal["img.white-balance"] = "img.white-balance"
    image: Sha256  # bucket inputs
    small_png: str | None = None  # base64, of colour_tables.shrink: reply with its `auto` table, a PNG of 256 x 1 px
    method: Literal["auto", "manual"] = "auto"
    temperature: Annotated[float, Field(ge=-100, le=100)] = 0.0  # positive: warmer
    tint: Annotated[float, Field(ge=-100, le=100)] = 0.0  # positive: more magenta
    strength: Annotated[float, Field(ge=0, le=1)] = 1.0


class LightRequest(Message):
    """Estimate the gains of the `auto` white balance, without making a picture."""

    type: Literal["img.estimate-light"] = "img.estimate-light"
    image: ImageRef  # bucket inputs or results, or cache for an assembled result


class LightReply(Message):
    """The gains of R, G and B in linear light at full strength; they keep the mean luminance."""

    gains: tuple[float, float, float]


class RenditionRequest(Message):
    """Encode a stored image in another format, with the metadata of an upload (GPS data only with `gps`).

    `original` is the format of the upload, or the nearest one that can be written.
    """

    type: Literal["img.rendition"] = "img.rendition"
    image: ImageRef  # bucket results or inputs, or cache for an assembled result
    upload: Sha256 | None = None  # bucket inputs; None: it is no longer stored
    format: Literal["original", "png", "jpeg", "webp", "avif"]
    quality: Annotated[int, Field(ge=1, le=100)] | None = None  # default: as the upload, or nearly without loss
    gps: bool = True
    receipt: Sha256 | None = None  # of the job's receipt as /v1 sends it; a signature names it


class RenditionReply(Message):
    """A rendition, with notes about the changes that its format needs."""

    image: ImageRef  # bucket cache, or the image of the request if its bytes are the same


class ImageReply(Message):
    """A new image (bucket cache)."""

    png: ImageRef


class HealthRequest(Message):
    """Request the health of a service."""

    type: Literal["health"] = "health"


class HealthReply(Message):
    """The health of a service, with details for operators."""

    service: str
    instance: str
    status: Literal["healthy", "degraded", "starting"]
    detail: dict[str, str] = Field(default_factory=dict)
