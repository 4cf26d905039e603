"""Every failure that crosses a service boundary, as one tree; each has a stable code and says whether a retry can help.

ArtMancerError
├── BadInput              the request cannot work, however often it is sent
│   ├── BadImage          not a picture that we read
│   ├── TooLarge          over a limit in bytes or pixels
│   ├── BadMessage        a message on the bus that breaks its schema
│   └── NothingFound      the picture holds nothing that the prompt points at
├── NotFound              unknown or expired
│   └── ImageNotFound     a picture that is not, or no longer, in the store
├── Conflict              the state of the thing forbids it
│   └── WrongLastSequence somebody else wrote to the subject first
├── JobFailed             the job ended without a result
│   └── TooManyAttempts     each worker that took it stopped without an answer
├── JobCancelled          somebody asked for it
├── Busy                  full for now: try again
│   └── StreamFull        the broker takes no more messages of this kind
├── Unavailable           a part of the system is down
│   └── BrokerUnavailable nats-server does not answer
├── EngineFailed          an engine gave up on this job
│   └── EngineHung        it says nothing any more; its process can only be ended, with exit code 70
└── ConfigError           a setting is wrong; the process ends with exit code 78
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIELD_LENGTH = 100  # an unknown field keeps the name that its sender chose
EXIT_CONFIG, EXIT_HUNG = 78, 70  # EX_CONFIG and EX_SOFTWARE of sysexits.h


class ArtMancerError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (self.__class__.__doc__ or "").strip()
        super().__init__(self.message)


class BadInput(ArtMancerError):
    """The request is not valid."""

    code = "bad_input"


class BadImage(BadInput):
    """The file is not a picture that can be read."""

    code = "bad_image"


class TooLarge(BadInput):
    """The picture is too large."""

    code = "too_large"


class BadMessage(BadInput):
    """The message does not follow its schema."""

    code = "bad_message"


class NothingFound(BadInput):
    """No masks found."""

    code = "nothing_found"


class NotFound(ArtMancerError):
    """Not found."""

    code = "not_found"


class ImageNotFound(NotFound):
    """The picture is unknown or has expired."""

    code = "image_not_found"


class Conflict(ArtMancerError):
    """The request does not fit the present state."""

    code = "conflict"


class WrongLastSequence(Conflict):
    """Somebody else wrote to this subject first."""

    code = "wrong_last_sequence"


class JobFailed(ArtMancerError):
    """The job failed."""

    code = "job_failed"


class TooManyAttempts(JobFailed):
    """The job was tried too often: each time the worker stopped without an answer."""

    code = "max_deliver"


class JobCancelled(ArtMancerError):
    """Request cancelled"""  # noqa: D400 (the deployed client compares with exactly these words)

    code = "cancelled"


class Busy(ArtMancerError):
    """All workers are busy, please try again in a moment."""

    code = "busy"


class StreamFull(Busy):
    """The queue is full, please try again in a moment."""

    code = "queue_full"


class Unavailable(ArtMancerError):
    """The service is not available."""

    code = "unavailable"


class BrokerUnavailable(Unavailable):
    """The message broker is not available."""

    code = "broker_unavailable"


class EngineFailed(ArtMancerError):
    """The engine could not finish this job."""

    code = "engine_failed"


class EngineHung(EngineFailed):
    """The engine stopped answering while it was at this job."""

    code = "engine_hung"


class ConfigError(ArtMancerError):
    """A setting is wrong."""

    code = "config"


def _tree(root: type[ArtMancerError]) -> dict[str, type[ArtMancerError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


_BY_CODE = _tree(ArtMancerError)
CODES = tuple(_BY_CODE)


def from_code(code: str, message: str) -> ArtMancerError:
    """Rebuild the error that another service reported; an unknown code becomes the root class."""
    return _BY_CODE.get(code, ArtMancerError)(message)


def first_invalid(errors: Sequence[Any]) -> tuple[str, str]:
    """Return field and message of the first error in pydantic's `ValidationError.errors()`; the field may be empty."""
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"])[:_FIELD_LENGTH]
    return field, first["msg"].removeprefix("Value error, ")


def describe_invalid(errors: Sequence[Any], whole: str) -> str:
    """Return a sentence about the first error in pydantic's `ValidationError.errors()`.

    `whole` names the thing that was parsed, e.g. "message", for an error without a field.
    """
    field, message = first_invalid(errors)
    subject = f"The field {field}" if field else f"The {whole}"
    return f"{subject} is not valid: {message[0].lower()}{message[1:]}."
