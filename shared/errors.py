"""All errors that cross a service boundary, as one tree. Each class has a stable code; its docstring is its message.

ArtMancerError
├── BadInput              the request is wrong; a retry cannot help
│   ├── BadImage          not an image, or a format that is not supported
│   ├── TooLarge          over a limit in bytes or pixels
│   ├── BadMessage        a message that breaks its schema
│   └── NothingFound      the image has no object at the prompt
├── NotFound              unknown or expired
│   ├── ImageNotFound     the image is not in the store, or no longer
│   └── JobDeleted        the owner deleted the job and its data
├── Conflict              the present state does not allow the request
│   └── WrongLastSequence another writer stored a message on the subject first
├── JobFailed             the job ended without a result
│   ├── TooManyAttempts   each worker that started the job stopped without a result
│   └── SubmissionLost    the broker lost the submission of a job that had not ended
├── JobCancelled          the job was cancelled
├── Busy                  at its limit for now: try again
│   └── StreamFull        the broker takes no more messages of this kind
├── Unavailable           a part of the system is down
│   ├── BrokerUnavailable nats-server does not answer
│   └── Stopping          the service stops before it could answer
├── EngineFailed          an engine could not finish this job
│   ├── EngineHung        the engine is stuck; its process ends with exit code 70
│   └── CardLost          the GPU refuses every later call of the process, which ends
└── ConfigError           a setting is wrong; the process ends with exit code 78
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

E = TypeVar("E", bound=BaseException)
_FIELD_LENGTH = 100  # the sender chooses the name of an unknown field
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
    """The file is not a readable image."""

    code = "bad_image"


class TooLarge(BadInput):
    """The image is too large."""

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
    """The image is unknown or has expired."""

    code = "image_not_found"


class JobDeleted(NotFound):
    """The job was deleted."""

    code = "deleted"


class Conflict(ArtMancerError):
    """The request does not fit the present state."""

    code = "conflict"


class WrongLastSequence(Conflict):
    """Another writer was first."""

    code = "wrong_last_sequence"


class JobFailed(ArtMancerError):
    """The job failed."""

    code = "job_failed"


class TooManyAttempts(JobFailed):
    """The job failed too often: each worker that started it stopped without a result."""

    code = "max_deliver"


class SubmissionLost(JobFailed):
    """The stored submission of this job is lost, so it cannot run; please submit it again."""

    code = "submission_lost"


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


class Stopping(Unavailable):
    """The service is restarting, please try again in a moment."""

    code = "stopping"


class EngineFailed(ArtMancerError):
    """The engine could not finish this job."""

    code = "engine_failed"


class EngineHung(EngineFailed):
    """The engine stopped responding during this job."""

    code = "engine_hung"


class CardLost(EngineFailed):
    """The GPU failed during this job, please try again."""

    code = "card_lost"


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
    """Return the error that another service reported; an unknown code gives the root class."""
    return _BY_CODE.get(code, ArtMancerError)(message)


def first_of(group: BaseExceptionGroup[E]) -> E:
    """Return the first error of a group, and of the groups in it."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


def first_invalid(errors: Sequence[Any]) -> tuple[str, str]:
    """Return field and message of the first error in pydantic's `ValidationError.errors()`; the field may be empty."""
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"])[:_FIELD_LENGTH]
    return field, first["msg"].removeprefix("Value error, ")


def describe_invalid(errors: Sequence[Any], whole: str) -> str:
    """Return a sentence about the first error in pydantic's `ValidationError.errors()`.

    `whole` names the parsed object, e.g. "message", for an error without a field.
    """
    field, message = first_invalid(errors)
    subject = f"The field {field}" if field else f"The {whole}"
    return f"{subject} is not valid: {message[0].lower()}{message[1:]}."
