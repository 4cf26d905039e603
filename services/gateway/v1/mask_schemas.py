"""The request and response bodies of /v1/masks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from services.gateway.v1 import examples
from services.gateway.v1.schemas import Resource, with_examples
from shared.messages import Sha256  # noqa: TC001 (pydantic reads the annotations)

Engine = Literal["default", "sam", "fastsam", "birefnet", "grabcut"]
Point = tuple[FiniteFloat, FiniteFloat]
LabelledPoint = tuple[FiniteFloat, FiniteFloat, Literal[0, 1]]


class Stroke(Resource):
    """A freehand line, in pixels of the image after EXIF rotation."""

    model_config = with_examples({"points": [[250, 60], [300, 120]], "radius_px": 12, "positive": True})

    points: Annotated[list[Point], Field(min_length=1, max_length=5_000)]
    radius_px: Annotated[FiniteFloat, Field(gt=0, le=2_000)] = 8.0
    positive: Annotated[bool, Field(description="True: on the object. False: on the background.")] = True


class MaskQuery(Resource):
    """The object to segment. Only the first of these prompts is used: points and box, strokes, a rough mask, auto.

    Coordinates are pixels of the image after EXIF rotation. A point is `[x, y, 1]` on the object or `[x, y, 0]` on the
    background.
    """

    model_config = with_examples(examples.MASK_QUERY)

    image: Sha256
    points: Annotated[list[LabelledPoint], Field(max_length=64)] = Field(default_factory=list)
    previous: Sha256 | None = Field(
        default=None,
        description="The mask that the last point corrects, found in this image without `grow` and `feather`. The "
        "answer is the same without it if points alone gave that mask, but takes longer.",
    )
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = Field(
        default=None, description="`[x_min, y_min, x_max, y_max]`"
    )
    strokes: Annotated[list[Stroke], Field(max_length=64)] = Field(
        default_factory=list, description="All points together may take about 2 MB of JSON; beyond, the answer is 413."
    )
    mask: Sha256 | None = None
    auto: Annotated[bool, Field(description="Segment the main object of the image.")] = False
    engine: Engine = "default"
    grow: Annotated[int, Field(ge=-200, le=200, description="Grow the mask by this many pixels; negative: shrink.")] = 0
    feather: Annotated[
        FiniteFloat, Field(ge=0, le=200, description="The standard deviation of the edge's blur, in pixels.")
    ] = 0.0
    candidates: Annotated[
        int,
        Field(
            ge=1,
            le=5,
            description="The largest number of masks to return. One click may mean a part, a thing, or the thing with "
            "its support: ask for three at the first click, and order them by `area`.",
        ),
    ] = 1


class FoundMask(Resource):
    """A mask: a greyscale PNG of the image's size, white on the object. The score is 0 to 1."""

    model_config = with_examples(examples.FOUND_MASK)

    sha256: Sha256
    score: float
    box: tuple[int, int, int, int] | None = Field(
        default=None,
        description="The box of the white pixels, `[x_min, y_min, x_max, y_max]`, for a thumbnail; given where "
        "several candidates were asked for.",
    )
    area: float | None = Field(default=None, description="The share of the image that is white, 0 to 1; as `box`.")


class FoundMasks(FoundMask):
    """The best mask, and all candidates, best first. Each of them can be the mask of a job."""

    model_config = with_examples(examples.FOUND_MASKS)

    engine: str
    note: str | None = Field(description="A remark on the result, for example that a coarse method was used.")
    candidates: list[FoundMask]


class PreviewQuery(Resource):
    """The point under the pointer, in pixels of the image after EXIF rotation."""

    model_config = with_examples({"image": examples.PHOTO, "point": [280, 90]})

    image: Sha256
    point: Point
    engine: Engine = "default"


class MaskPreview(Resource):
    """The outline of the object that a click would select. Nothing is stored.

    The engine `grabcut` outlines the whole thing here: a first click on a small distinct part, such as an eye or a
    badge, selects that part alone. The looks that find the part cost more than a preview may.

    `found`: there is one. `nothing`: no object is there. `not-seen`: the engine has not seen the image yet, or cannot
    outline; a mask request makes it see the image. `superseded`: a later request of the same owner took its place.
    """

    model_config = with_examples(examples.MASK_PREVIEW)

    status: Literal["found", "nothing", "not-seen", "superseded"]
    outline: list[list[Point]] = Field(
        description="Closed polygons in pixels of the image after EXIF rotation, at most 32 of at most 256 corners. "
        "Holes are polygons too: fill with the even-odd rule."
    )
    score: float
    engine: str | None
