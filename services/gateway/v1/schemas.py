"""What /v1 takes and gives besides jobs, field by field. Other classes than those on the bus and those of /api."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from services.gateway.v1 import examples
from shared.messages import Sha256

if TYPE_CHECKING:
    from shared.messages import ImageRef

Point = tuple[FiniteFloat, FiniteFloat]
LabelledPoint = tuple[FiniteFloat, FiniteFloat, Literal[0, 1]]


class Resource(BaseModel):
    """Base of all: closed and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def shown(*example: Any) -> ConfigDict:
    """Put examples onto the OpenAPI page."""
    return ConfigDict(json_schema_extra={"examples": list(example)})


# --- pictures -----------------------------------------------------------------------------------------------------


class Picture(Resource):
    """A stored picture, named by the SHA-256 of its bytes; width and height are those of the upright picture."""

    model_config = shown(examples.PICTURE, examples.CUT_OUT)

    sha256: Sha256
    width: int
    height: int
    content_type: str
    bytes: int

    @classmethod
    def of(cls, ref: ImageRef) -> Picture:
        """Describe what a reference points at."""
        return cls(
            sha256=ref.sha256,
            width=ref.width,
            height=ref.height,
            content_type=ref.content_type,
            bytes=ref.size_bytes,
        )


class ExtractionRequest(Resource):
    """Cut the masked object out."""

    model_config = shown(examples.EXTRACTION)

    image: Sha256
    mask: Sha256


# --- masks --------------------------------------------------------------------------------------------------------


class Stroke(Resource):
    """A line drawn by hand, in pixels of the upright picture."""

    model_config = shown({"points": [[250, 60], [300, 120]], "radius_px": 12, "positive": True})

    points: Annotated[list[Point], Field(min_length=1, max_length=5_000)]
    radius_px: Annotated[FiniteFloat, Field(gt=0, le=2_000)] = 8.0
    positive: bool = True


class MaskQuery(Resource):
    """Find the thing that is pointed at: by points and a box, else strokes, else a rough mask, else by itself (auto).

    Coordinates are pixels of the upright picture; a point is x, y and 1 for the thing or 0 for what is not of it.
    """

    model_config = shown(examples.MASK_QUERY)

    image: Sha256
    points: Annotated[list[LabelledPoint], Field(max_length=64)] = Field(default_factory=list)
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = None
    strokes: Annotated[list[Stroke], Field(max_length=64)] = Field(default_factory=list)
    mask: Sha256 | None = None
    auto: bool = False
    engine: Literal["default", "fastsam", "birefnet", "grabcut"] = "default"
    grow: Annotated[int, Field(ge=-200, le=200, description="Pixels; negative shrinks.")] = 0
    feather: Annotated[FiniteFloat, Field(ge=0, le=200, description="Pixels.")] = 0.0
    candidates: Annotated[int, Field(ge=1, le=5, description="So many answers at most.")] = 1


class FoundMask(Resource):
    """One answer: a greyscale PNG of the picture's size, white inside."""

    model_config = shown({"sha256": examples.MASK, "score": 0.93})

    sha256: Sha256
    score: float


class FoundMasks(FoundMask):
    """The best answer, and all of them, best first; each can at once be the mask of a job."""

    model_config = shown(examples.FOUND_MASKS)

    engine: str
    note: str | None = Field(description="What to know about the answer, e.g. that a coarse method was used.")
    candidates: list[FoundMask]


# --- access -------------------------------------------------------------------------------------------------------


class SignedUrlRequest(Resource):
    """Let something in that cannot send a key."""

    model_config = shown(examples.SIGNED_URL_REQUEST)

    path: Annotated[str, Field(max_length=300, description="Of a picture or of a stream of events.")]
    lifetime_s: Annotated[FiniteFloat, Field(ge=1)] | None = Field(
        default=None, description="No longer than the server allows, which is also what it takes if this is missing."
    )


class SignedUrl(Resource):
    """An address that opens by itself until it expires; a stream that has begun by then runs to its end."""

    model_config = shown(examples.SIGNED_URL)

    url: str
    expires_at: datetime | None = Field(description="Null: no key is asked for, and it opens for ever.")


# --- the rest -----------------------------------------------------------------------------------------------------


class Sample(Resource):
    """A photo to try things with."""

    model_config = shown(examples.SAMPLE)

    name: str
    url: str
    width: int
    height: int
    credit: str


class ServiceHealth(Resource):
    """How one service is; it may tell more about itself."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"status": "healthy", "instance": "laptop"}]}
    )

    status: str


class Health(Resource):
    """How the system is."""

    model_config = shown(examples.HEALTH)

    status: Literal["healthy", "degraded"]
    services: dict[str, ServiceHealth]
    streams: list[str]


class Problem(Resource):
    """A failure (RFC 9457). `detail` is one sentence for people, `code` a word for programs."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    code: str
