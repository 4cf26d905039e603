"""The request and response bodies of /v1, separate from the messages on the bus and the bodies of /api."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from services.gateway.v1 import examples
from shared.messages import DEFAULT_GUIDANCE, DEFAULT_STEPS, JobClass, JobState, Sha256, Task

Text = Annotated[str, Field(max_length=10_000)]


class Resource(BaseModel):
    """The base of all bodies: no unknown fields, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def with_examples(*examples: Any) -> ConfigDict:
    """Return a model configuration that adds examples to the model's JSON schema."""
    return ConfigDict(json_schema_extra={"examples": list(examples)})


# --- images -------------------------------------------------------------------------------------------------------


class Image(Resource):
    """A stored image, named by the SHA-256 of its bytes. Width and height are in pixels, after EXIF rotation."""

    model_config = with_examples(examples.IMAGE, examples.EXTRACTED)

    sha256: Sha256
    width: int
    height: int
    content_type: str
    bytes: int
    notes: list[str] = Field(
        default_factory=list, description="What of the file is not edited or not kept, for example further frames."
    )


class ExtractionRequest(Resource):
    """The object to cut out: white pixels of the mask."""

    model_config = with_examples(examples.EXTRACTION)

    image: Sha256
    mask: Sha256
    frame: Literal["square", "photo"] = Field(
        default="square",
        description="`square`: scaled into a square of 512 or 1024 pixels. `photo`: at full size, where it stood.",
    )


class WhiteBalanceEstimate(Resource):
    """The gains of the automatic white balance of the image utilities at full strength.

    In linear light it multiplies R, G and B by `gains`; a strength of 0.5 takes about their square roots. Clipped
    highlights stay neutral, which gains alone do not show.
    """

    model_config = with_examples(examples.LIGHT_ESTIMATE)

    gains: tuple[float, float, float]


# --- jobs ---------------------------------------------------------------------------------------------------------


class JobSubmission(Resource):
    """An edit. Images are named by the SHA-256 of an upload, a found mask, an extracted object or an earlier result."""

    model_config = with_examples(examples.SUBMISSION)

    task: Task
    image: Sha256
    mask: Sha256 | None = Field(default=None, description="The region to edit; required for removal and insertion.")
    reference: Sha256 | None = Field(default=None, description="The object to insert; required for insertion.")
    reference_mask: Sha256 | None = Field(default=None, description="The object's region in the reference.")
    prompt: Text = ""
    negative_prompt: Text | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(default=None, description="Null: the server picks.")
    steps: Annotated[int, Field(ge=1, le=100)] = DEFAULT_STEPS
    guidance: Annotated[FiniteFloat, Field(ge=0.5, le=20)] = DEFAULT_GUIDANCE
    strength: Annotated[FiniteFloat, Field(ge=0, le=1, description="The strength of a white balance.")] = 1.0
    temperature: Annotated[
        FiniteFloat,
        Field(ge=-100, le=100, description="Added to a white balance: positive is warmer."),
    ] = 0.0
    variant: Annotated[
        int,
        Field(ge=0, le=1, description="1: another try at a removal. The engine `classical` then fills in another way."),
    ] = 0
    mask_tool: Literal["brush", "box"] | None = None
    exact_mask: Annotated[
        bool,
        Field(
            description="Change nothing outside the mask. Otherwise a removal grows the mask by about 1 % of the long "
            "side, and an inserted object has its shadow."
        ),
    ] = False
    debug: Annotated[bool, Field(description="Keep the intermediate images for a day.")] = False
    job_class: JobClass = Field(default=JobClass.INTERACTIVE, alias="class")


class Links(Resource):
    """The job's URLs. `events` and `result` are signed: they work without a key for some minutes."""

    model_config = with_examples(examples.LINKS)

    self_: str = Field(alias="self")
    events: str
    result: str
    receipt: str


class AcceptedJob(Resource):
    """The job is stored. It runs to its end, also after the client disconnects."""

    model_config = with_examples(examples.ACCEPTED)

    id: str
    status: JobState
    links: Links


class JobError(Resource):
    """The reason of a failure: `code` for programs, `message` for people."""

    model_config = with_examples({"code": "engine_failed", "message": "The engine could not finish this job."})

    code: str
    message: str


class Job(Resource):
    """The state of a job."""

    model_config = with_examples(examples.DONE_JOB, examples.CANCELLED_JOB)

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
    ahead: int | None = Field(description="The number of jobs that will start before this one.")
    eta_ms: int | None = Field(description="The estimated time to the end of the job, in milliseconds.")
    attempt: int
    engine: str | None
    error: JobError | None
    result: Image | None
    duration_ms: int | None
    links: Links


class JobPage(Resource):
    """A page of the owner's jobs, newest first."""

    model_config = with_examples(examples.JOB_PAGE)

    jobs: list[Job]
    next_cursor: str | None = Field(description="The cursor of the next page; null on the last page.")


class EarlierEdit(Resource):
    """An edit that led to the image of another one. For a deleted or expired edit only `output` is known."""

    model_config = with_examples(examples.EARLIER_EDIT)

    id: str | None = None
    task: Task | None = None
    inputs: dict[str, Sha256] = Field(default_factory=dict, description="As in the receipt of this edit.")
    output: Sha256
    seed: int | None = None
    variant: int | None = None
    strength: float | None = None
    temperature: float | None = None
    engine: str | None = None
    pixels_changed_outside_mask: int | None = None
    changed_box: tuple[int, int, int, int] | None = None
    digital_source_type: str | None = None
    finished_at: datetime | None = None
    note: str | None = Field(default=None, description="Why no more is known, of this edit or of those before it.")


class Receipt(Resource):
    """A record of a finished edit: the SHA-256 of each input and of the result, the engine and its parameters."""

    model_config = with_examples(examples.RECEIPT)

    id: str
    task: Task | None
    inputs: dict[str, Sha256] = Field(description="Empty if the submission has expired.")
    output: Sha256
    seed: int
    steps: int | None
    variant: int | None = Field(description="Null, like the steps, if the submission has expired.")
    strength: float | None = Field(description="Of a white balance; else, and if the submission has expired, null.")
    temperature: float | None = Field(description="As the strength.")
    engine: str
    worker: str
    attempt: int
    pixels_changed_outside_mask: int = Field(
        description="Pixels outside the edited region that differ from the upload."
    )
    changed_box: tuple[int, int, int, int] | None = Field(
        description="All changes are inside: x, y, width, height in pixels. Null: not recorded."
    )
    recipe: str | None = Field(description="The images and words that the model got; null: the engine has no recipes.")
    windows: list[tuple[int, int, int, int]] = Field(description="The painted parts: x, y, width, height in pixels.")
    adapters: dict[str, Sha256] = Field(description="The adapters that were on.")
    digital_source_type: str | None = Field(
        description="What the result is made of, as it states itself: a term of the IPTC vocabulary Digital Source "
        "Type. Null: nothing was painted."
    )
    timings_ms: dict[str, int]
    notes: list[str] = Field(description="What of the inputs is not in the result, for example further frames.")
    created_at: datetime
    finished_at: datetime
    replay_of: str | None
    earlier: list[EarlierEdit] = Field(
        default_factory=list,
        description="The edits before this one, the last one first, if the image is the result of one: each has the "
        "image of the next as its output, and the last entry has the upload in its inputs, or a note.",
    )


# --- access -------------------------------------------------------------------------------------------------------


class SignedUrlRequest(Resource):
    """The path to sign, for a client that cannot send a header."""

    model_config = with_examples(examples.SIGNED_URL_REQUEST)

    path: Annotated[str, Field(max_length=300, description="The path of an image, a result or an event stream.")]
    lifetime_s: Annotated[FiniteFloat, Field(ge=1)] | None = Field(
        default=None, description="Seconds. The server's limit is the maximum and the default."
    )


class SignedUrl(Resource):
    """A signed URL. It works without a key until it expires. A stream that is open by then runs to its end."""

    model_config = with_examples(examples.SIGNED_URL)

    url: str
    expires_at: datetime | None = Field(description="Null: the server requires no keys, so the URL never expires.")


# --- system -------------------------------------------------------------------------------------------------------


class Sample(Resource):
    """A sample photo."""

    model_config = with_examples(examples.SAMPLE)

    name: str
    url: str
    width: int
    height: int
    credit: str


class ServiceHealth(Resource):
    """The health of one service. Services add fields of their own; `instances` lists them if there are several."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"status": "healthy", "instance": "laptop"}]}
    )

    status: str


class Health(Resource):
    """The health of the system."""

    model_config = with_examples(examples.HEALTH)

    status: Literal["healthy", "degraded"]
    services: dict[str, ServiceHealth]
    streams: list[str] = Field(description="The broker's streams that are less safe than configured.")
    formats: list[str] = Field(description="The image formats that this server reads.")


class TaskCapability(Resource):
    """The combined abilities of the present workers in one task."""

    engines: list[str] = Field(description="Empty if no worker answers at the moment.")
    parameters: list[str] = Field(
        description="The fields of a submission that change the result with one of these engines; others are ignored."
    )
    typical_s: float | None = Field(
        description="The usual duration of an edit on the fastest worker, in seconds; null: none was measured yet."
    )
    formats: list[str] = Field(description="The media types that a result can be downloaded in.")


class Capabilities(Resource):
    """The tasks that are available now, and the image formats for uploads."""

    model_config = with_examples(examples.CAPABILITIES)

    tasks: dict[Task, TaskCapability]
    upload_formats: list[str]


class Problem(Resource):
    """An error (RFC 9457): `detail` is a sentence for people, `code` a word for programs."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    code: str
