"""The bodies of `POST /v1/images/edits`: the fields that are obeyed, and the answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from services.gateway.v1 import examples
from services.gateway.v1.schemas import Resource, with_examples

_LONGEST_PROMPT = 32_000  # of OpenAI's API; an engine reads fewer, see words.py
_PNG = "iVBORw0KGgoAAAANSUhEUg"
_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
Identifier = Annotated[str, Field(max_length=256)]


class EditFields(Resource):
    """The fields of an edit beside its files. Other fields and other values are refused, never ignored."""

    prompt: Annotated[
        str,
        Field(
            max_length=_LONGEST_PROMPT,
            description="Empty, `remove`, `remove object` or `erase` for a removal; with a second image empty, "
            "`insert`, `insert object`, `add` or `add object`. Other words need an engine that obeys words.",
        ),
    ] = ""
    model: Literal["artmancer"] = "artmancer"
    n: Annotated[int, Field(ge=1, le=10, description="Each image is a job with a seed of its own.")] = 1
    size: Annotated[
        str, Field(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$", description="`auto` or the photo's own size.")
    ] = "auto"
    quality: Literal["auto"] = "auto"
    background: Literal["auto"] = "auto"
    input_fidelity: Annotated[
        Literal["high"], Field(description="Outside the mask every pixel stays as it is, so `low` is refused.")
    ] = "high"
    output_format: Annotated[
        Literal["png", "jpeg", "webp"],
        Field(description="`png` is without loss; the others change every pixel a little."),
    ] = "png"
    output_compression: Annotated[
        int, Field(ge=0, le=100, description="The quality of `jpeg` and `webp`; of a PNG only 100.")
    ] = 100
    response_format: Annotated[
        Literal["b64_json", "url"], Field(description="`url`: a signed address, which works for some minutes.")
    ] = "b64_json"
    stream: bool = False
    partial_images: Annotated[int, Field(ge=0, le=3, description="Previews in a stream, as small JPEGs.")] = 0
    user: Identifier | None = Field(default=None, description="Repeated in the answer as `safety_identifier`.")
    safety_identifier: Identifier | None = Field(default=None, description="Repeated in the answer.")

    @property
    def identifier(self) -> str | None:
        """The identifier of the end user, for the answer."""
        return self.safety_identifier or self.user


class OpenAIErrorDetail(Resource):
    """`message` is a sentence for people, `code` a word for programs, `param` the field at fault."""

    model_config = with_examples(
        {
            "message": "The field n is not valid: input should be less than or equal to 10.",
            "type": "invalid_request_error",
            "param": "n",
            "code": "integer_above_max_value",
        }
    )

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIError(Resource):
    """An error in the form of OpenAI's API."""

    error: OpenAIErrorDetail


class EditedImage(Resource):
    """One image of the answer: `b64_json` or `url`; of a failed edit neither, but its `error`."""

    model_config = with_examples({"b64_json": _PNG, "job_id": examples.JOB})

    b64_json: str | None = None
    url: str | None = None
    job_id: str | None = Field(
        default=None, description="`/v1/jobs/{job_id}/receipt` proves the edit; null if nothing was to edit."
    )
    error: OpenAIErrorDetail | None = None


class TokenDetails(Resource):
    """Always 0."""

    image_tokens: int
    text_tokens: int


class Usage(Resource):
    """Always 0: edits are not counted in tokens."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    total_tokens: int


class EditedImages(Resource):
    """The answer: `n` images in order."""

    model_config = with_examples(
        {
            "created": 1772357402,
            "output_format": "png",
            "size": "600x400",
            "usage": _USAGE,
            "data": [{"b64_json": _PNG, "job_id": examples.JOB}],
        }
    )

    created: int
    output_format: str
    size: str
    usage: Usage
    safety_identifier: str | None = None
    data: list[EditedImage]


def no_usage() -> dict[str, Any]:
    """Return the usage of every edit."""
    return dict(_USAGE)
