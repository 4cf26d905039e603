"""The request and response bodies of /api, as the deployed client sends and expects them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from shared.messages import JobClass, JobState, Task

Text = Annotated[str, Field(max_length=10_000)]
Base64 = Annotated[str, Field(description="An image in base64, with or without a data: prefix.")]
Adjustment = Annotated[int, Field(ge=-200, le=200)]
StatusWord = Literal["queued", "loading_pipeline", "processing", "done", "error", "cancelled"]


class _Request(BaseModel):
    """The base of requests. Unknown fields are ignored: the client sends some that have no effect."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


# --- edits --------------------------------------------------------------------------------------------------------


class GenerateSubmission(_Request):
    """An edit of an image."""

    prompt: Text
    input_image: Base64
    conditional_images: list[Base64] | None = Field(default=None, description="The first is the mask.")
    mask_image: Base64 | None = Field(default=None, description="The mask, if conditional_images has none.")
    reference_image: Base64 | None = None
    reference_mask_R: Base64 | None = None  # noqa: N815 (the client's name)
    width: Annotated[int, Field(ge=256, le=2048, description="Ignored: results have the upload's size.")] | None = None
    height: Annotated[int, Field(ge=256, le=2048, description="Ignored, as width.")] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=100)] | None = None
    guidance_scale: Annotated[FiniteFloat, Field(ge=0.5, le=20)] | None = None
    true_cfg_scale: Annotated[FiniteFloat, Field(ge=0.5, le=15)] | None = None
    negative_prompt: Text | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    task_type: Task | None = None
    input_quality: Literal["resized", "original"] | None = Field(default=None, description="Ignored, as width.")
    enable_flowmatch_scheduler: bool | None = None
    mask_tool_type: Literal["brush", "box"] | None = None
    enable_mae_refinement: bool | None = None
    enable_debug: bool | None = None


class Accepted(_Response):
    """The job is stored. It runs to its end, also after the client disconnects."""

    task_id: str
    status: Literal["queued"] = "queued"
    message: str = "The job is accepted."


class Status(_Response):
    """The state of a job, in the stream and under /status."""

    task_id: str
    status: StatusWord
    progress: float
    current_step: int | None
    total_steps: int | None
    error: str | None
    loading_message: str | None


class Result(_Response):
    """The facts about a finished job. The image has an address of its own."""

    task_id: str
    status: Literal["done"] = "done"
    generation_time: float = Field(description="Seconds.")
    model_used: str
    parameters_used: dict[str, str | int | float | bool | None]


class ResultWithDebugInfo(Result):
    """The facts and the intermediate images in base64, for a job with `enable_debug`."""

    debug_info: dict[str, Any]


class Cancelled(_Response):
    """The response to a cancel request, also if the job had ended."""

    success: Literal[True] = True
    message: str
    task_id: str


# --- smart masks --------------------------------------------------------------------------------------------------


class SmartMaskRequest(_Request):
    """The object to segment. Only the first of these prompts is used: points, box, mask, auto_detect."""

    image: Base64 | None = None
    image_id: str | None = None
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    points: Annotated[list[tuple[FiniteFloat, FiniteFloat]], Field(max_length=64)] | None = None
    mask: Base64 | None = None
    auto_detect: bool = False
    border_adjustment: Adjustment = 0
    use_blur: bool = False
    model_type: Literal["segmentation", "fastsam", "birefnet"] = "segmentation"


class SmartMask(_Response):
    """A greyscale PNG of the image's size, white on the object."""

    success: Literal[True] = True
    mask_base64: str
    image_id: str
    request_id: str
    model_used: str
    error: None = None


class DetectRequest(_Request):
    """The older form of SmartMaskRequest."""

    image: Base64
    mask: Base64 | None = None
    auto_detect: bool = True
    border_adjustment: Adjustment = 0
    model_type: Literal["segmentation", "fastsam", "birefnet"] = "segmentation"


class Detected(_Response):
    """The mask, or an error with status 200."""

    success: bool
    mask: str | None = None
    error: str | None = None


class MaskCancelled(_Response):
    """The response to a cancel request, also for an unknown id."""

    success: Literal[True] = True
    message: str = "The request is cancelled if it still runs."
    request_id: str


# --- image utilities ----------------------------------------------------------------------------------------------


class ExtractObjectRequest(_Request):
    """The object to cut out: white pixels of the mask."""

    image: Base64
    mask: Base64


class ExtractedObject(_Response):
    """The object on a white square, as PNG."""

    success: Literal[True] = True
    extracted_image: str
    error: None = None


class ShadowPreviewRequest(_Request):
    """An extracted object and the shadow to add; offsets and radius in pixels."""

    extracted_image: Base64
    mask: Base64 | None = None
    shadow_offset_x: Annotated[int, Field(ge=-500, le=500)] = 3
    shadow_offset_y: Annotated[int, Field(ge=-500, le=500)] = 5
    shadow_opacity: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.4
    blur_radius: Annotated[int, Field(ge=1, le=501)] = 21


class ShadowPreview(_Response):
    """The object with its shadow, or an error with status 200."""

    success: bool
    preview_image: str | None = None
    error: str | None = None


class WhiteBalanceParameters(_Response):
    """The parameters of a manual white balance."""

    temperature: float
    tint: float


class WhiteBalanced(_Response):
    """The image before and after a white balance."""

    success: Literal[True] = True
    original_image: str
    corrected_image: str
    method_used: Literal["auto", "manual"]
    parameters: WhiteBalanceParameters | None


# --- archives of jobs ---------------------------------------------------------------------------------------------


class ResultImage(_Response):
    """The result of a job."""

    sha256: str
    width: int
    height: int
    content_type: str
    bytes: int


class JobMetadata(_Response):
    """The file metadata.json in the archive of a finished job. The constant fields are kept for compatibility."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    id: str
    status: JobState
    task: Task | None
    job_class: JobClass | None = Field(alias="class")
    created_at: datetime
    updated_at: datetime
    progress: float = 1.0
    step: None = None
    total_steps: None = None
    message: None = None
    ahead: None = None
    eta_ms: None = None
    attempt: int
    engine: str | None
    error: None = None
    result: ResultImage
    duration_ms: int
    links: dict[str, str]


# --- operations ---------------------------------------------------------------------------------------------------


class CleanUpRequest(BaseModel):
    """The number of debug sessions to keep. The client sends it as a body, the contract names a query parameter."""

    keep_last_n: int = Field(default=50, ge=0)


class Acknowledged(_Response):
    """The response to a request that needs no action."""

    success: Literal[True] = True
    message: str
