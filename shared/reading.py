"""Read messages from the bus. Every reader uses this module, so that a malformed message ends no service."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Protocol, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from shared.errors import BadMessage, describe_invalid, first_invalid

M = TypeVar("M")
_LOGGED = 1024  # messages; readers of a bucket or a stream meet the same malformed message again and again
log = logging.getLogger(__name__)


class Readable(Protocol):
    """A message of a stream or a delivery of a consumer."""

    @property
    def seq(self) -> int:
        """The sequence in the stream; 0 for a live message."""

    @property
    def subject(self) -> str:
        """The subject that it was published on."""

    @property
    def data(self) -> bytes:
        """The body."""


def read(kind: type[M] | TypeAdapter[M], data: bytes, whole: str = "message") -> M:
    """Return the body as a message of this kind. Raises BadMessage, which names the body `whole`."""
    try:
        return _validate(kind, data)
    except ValidationError as error:
        raise BadMessage(describe_invalid(_errors(error), whole)) from error


def read_or_skip(kind: type[M] | TypeAdapter[M], message: Readable | None) -> M | None:
    """Return the message of this kind. Return None without a message, and for a malformed one, which is logged once.

    An empty body is the deletion marker of a bucket and is not logged.
    """
    if message is None or not message.data:
        return None
    try:
        return _validate(kind, message.data)
    except ValidationError as error:
        first = _errors(error)[0]
        field, _ = first_invalid([first])  # not pydantic's text, which may quote the content
        log_malformed(message.subject, message.seq, f"{field}: {first['type']}" if field else first["type"])
        return None


@lru_cache(_LOGGED)
def log_malformed(subject: str, seq: int, reason: str) -> None:
    """Log that a message cannot be read; once, unless many others follow it."""
    log.warning("message.malformed", extra={"subject": subject, "seq": seq, "reason": reason})


def _validate(kind: type[M] | TypeAdapter[M], data: bytes) -> M:
    if isinstance(kind, TypeAdapter):
        return kind.validate_json(data)
    assert issubclass(kind, BaseModel)  # noqa: S101 (narrows the type)
    return kind.model_validate_json(data)


def _errors(error: ValidationError) -> list[dict[str, str]]:
    return error.errors(include_input=False, include_url=False)  # type: ignore[return-value]
