"""The answers of /v1 that the SDK returns. Fields that this release does not know are ignored."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TERMINAL = frozenset({"done", "failed", "cancelled"})


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Image(_Answer):
    """A stored image: its SHA-256, its size in pixels and in bytes."""

    sha256: str
    width: int
    height: int
    content_type: str
    bytes: int


class FoundMask(_Answer):
    """A mask: the SHA-256 of a greyscale PNG of the image's size, and a score from 0 to 1."""

    sha256: str
    score: float


class FoundMasks(FoundMask):
    """The best mask, and all candidates, best first."""

    engine: str
    note: str | None = None
    candidates: list[FoundMask] = Field(default_factory=list)


class JobError(_Answer):
    """The reason of a failure: a word for programs and a sentence for people."""

    code: str
    message: str


class Job(_Answer):
    """The state of a job. `progress` is 0 to 1."""

    id: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    task: str | None = None
    progress: float = 0.0
    step: int | None = None
    total_steps: int | None = None
    message: str | None = None
    ahead: int | None = None
    eta_ms: int | None = None
    engine: str | None = None
    error: JobError | None = None
    result: Image | None = None

    @property
    def has_ended(self) -> bool:
        """Return whether the job is done, failed or cancelled."""
        return self.status in TERMINAL


class JobPage(_Answer):
    """A page of jobs, newest first, and the cursor of the next one."""

    jobs: list[Job]
    next_cursor: str | None


class Event(_Answer):
    """An event of a job: its number in the stream, its name, and its fields as /v1 sends them."""

    id: int
    name: str
    data: dict[str, Any]

    @property
    def progress(self) -> float:
        """Return the progress of the whole job, 0 to 1."""
        return float(self.data.get("progress") or 0.0)

    @property
    def is_last(self) -> bool:
        """Return whether no event follows."""
        return self.name in TERMINAL


class EarlierEdit(BaseModel):
    """An edit before another one.

    For a deleted or expired edit, only `output` and the `note` with the reason are set.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str | None = None
    inputs: dict[str, str] = Field(default_factory=dict)
    output: str
    engine: str | None = None
    note: str | None = None


class Receipt(BaseModel):
    """The record of a finished edit; all further fields of the server are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    inputs: dict[str, str]
    output: str
    engine: str
    pixels_changed_outside_mask: int
    earlier: list[EarlierEdit] = Field(default_factory=list)  # the last one first
