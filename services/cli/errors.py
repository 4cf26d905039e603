"""The errors of the SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .models import Job


class ArtMancerError(Exception):
    """The base of all errors here; the text is a sentence for people."""


class WrongArguments(ArtMancerError):
    """The address or the key cannot be used, or the command line has no photo: nothing was sent."""


class Unreachable(ArtMancerError):
    """The server did not answer, also after retries."""


class ApiError(ArtMancerError):
    """The server refused a request: `status` is the HTTP status, `code` a word for programs."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class JobEnded(ArtMancerError):
    """A job ended without a result: it failed or was cancelled."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.error.message if job.error else f"The job was {job.status}.")
        self.job = job
