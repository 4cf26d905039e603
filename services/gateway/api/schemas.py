"""What the deployed client sends and expects under /api, field by field. Other classes than those on the bus."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from shared.messages import Task

Text = Annotated[str, Field(max_length=10_000)]
Base64 = Annotated[str, Field(description="A picture in base64, with or without a data: prefix.")]
Adjustment = Annotated[int, Field(ge=-200, le=200)]
Word = Literal["queued", "loading_pipeline", "processing", "done", "error", "cancelled"]


class _Request(BaseModel):
    """Unknown keys are ignored: the client sends some that nobody reads."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


# --- edits --------------------------------------------------------------------------------------------------------


class GenerateSubmission(_Request):
    """An edit of a picture."""

    prompt: Text
    input_image: Base64
    conditional_images: list[Base64] | None = Field(default=None, description="The first is the mask.")
    mask_image: Base64 | None = Field(default=None, description="The mask again; read if it is not above.")
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


class Accepted(_Answer):
    """The job is logged; it runs even if nobody watches."""

    task_id: str
    status: Literal["queued"] = "queued"
    message: str = "The job is accepted."


class Status(_Answer):
    """Where a job stands, as the stream and the status tell it."""

    task_id: str
    status: Word
    progress: float
    current_step: int | None
    total_steps: int | None
    error: str | None
    loading_message: str | None


class Result(_Answer):
    """What there is to say about a finished job; its picture is fetched on its own."""

    task_id: str
    status: Literal["done"] = "done"
    generation_time: float = Field(description="Seconds.")
    model_used: str
    parameters_used: dict[str, str | int | float | bool | None]


class DebuggedResult(Result):
    """The same with the pictures that the edit was made from, in base64, for who asked to see them."""

    debug_info: dict[str, Any]


class Cancelled(_Answer):
    """Cancelling twice, or too late, is fine."""

    success: Literal[True] = True
    message: str
    task_id: str


# --- smart masks --------------------------------------------------------------------------------------------------


class SmartMaskRequest(_Request):
    """Find the thing that is pointed at: points, else a box, else a mask, else the main subject."""

    image: Base64 | None = None
    image_id: str | None = None
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    points: Annotated[list[tuple[FiniteFloat, FiniteFloat]], Field(max_length=64)] | None = None
    mask: Base64 | None = None
    auto_detect: bool = False
    border_adjustment: Adjustment = 0
    use_blur: bool = False
    model_type: Literal["segmentation", "fastsam", "birefnet"] = "segmentation"


class SmartMask(_Answer):
    """A greyscale PNG of the picture's size, white inside."""

    success: Literal[True] = True
    mask_base64: str
    image_id: str
    request_id: str
    error: None = None


class DetectRequest(_Request):
    """The older form of the same question."""

    image: Base64
    mask: Base64 | None = None
    auto_detect: bool = True
    border_adjustment: Adjustment = 0
    model_type: Literal["segmentation", "fastsam", "birefnet"] = "segmentation"


class Detected(_Answer):
    """Failures come in here too, with status 200."""

    success: bool
    mask: str | None = None
    error: str | None = None


class MaskCancelled(_Answer):
    """Given for unknown ids too."""

    success: Literal[True] = True
    message: str = "The request is dropped if it still runs."
    request_id: str


# --- image utilities ----------------------------------------------------------------------------------------------


class ExtractObjectRequest(_Request):
    """Cut an object out, white ground, square."""

    image: Base64
    mask: Base64


class Extracted(_Answer):
    """The object on a white square, PNG."""

    success: Literal[True] = True
    extracted_image: str
    error: None = None


class ShadowPreviewRequest(_Request):
    """Show an extracted object with a soft shadow on light ground."""

    extracted_image: Base64
    mask: Base64 | None = None
    shadow_offset_x: Annotated[int, Field(ge=-500, le=500)] = 3
    shadow_offset_y: Annotated[int, Field(ge=-500, le=500)] = 5
    shadow_opacity: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.4
    blur_radius: Annotated[int, Field(ge=1, le=501)] = 21


class ShadowPreview(_Answer):
    """Failures come in here too, with status 200."""

    success: bool
    preview_image: str | None = None
    error: str | None = None


class Knobs(_Answer):
    """What a manual white balance was told."""

    temperature: float
    tint: float


class WhiteBalanced(_Answer):
    """Before and after."""

    success: Literal[True] = True
    original_image: str
    corrected_image: str
    method_used: Literal["auto", "manual"]
    parameters: Knobs | None


class Done(_Answer):
    """Nothing more to say."""

    success: Literal[True] = True
    message: str
