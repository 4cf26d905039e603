"""The structured answers of the tools. Pictures are resources: `artmancer://images/<sha256>`."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Picture(BaseModel):
    """A stored picture."""

    picture: str = Field(description="The address of the picture, for other tools and for reading it as a resource.")


class Selection(BaseModel):
    """The mask of an object, white on it."""

    mask: str = Field(description="The address of the best mask.")
    score: float = Field(description="0 to 1.")
    note: str | None = Field(description="A remark on the result.")
    candidates: list[str] = Field(description="The addresses of all masks, best first.")


class Edit(Picture):
    """A finished edit."""

    job_id: str
    engine: str
    pixels_changed_outside_mask: int = Field(
        description="From the receipt: 0 for a removal or insertion. A rim of about 1 % of the side counts as mask."
    )


class Comparison(BaseModel):
    """The difference of two pictures of one size."""

    changed_pixels: int
    share: float = Field(description="Of all pixels, 0 to 1.")
    box: tuple[int, int, int, int] | None = Field(
        description="The smallest box round the changed pixels: left, top, right, bottom; null without any."
    )
