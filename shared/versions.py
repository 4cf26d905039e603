"""Messages of a newer release: report their unknown fields, and find those that this release may not act on.

Decision 0022 has the rules.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from shared import metrics

HAND_BACK_S = 30.0
"""The time until a message of a newer release is delivered again, to a consumer of that release if one runs by then."""
log = logging.getLogger(__name__)
_NAMES_A_QUEUE = {"task", "job_class"}


def report_unknown(kind: str, names: list[str]) -> None:
    """Count a message of this kind with these unknown fields, and log them."""
    metrics.UNKNOWN_FIELDS.labels(kind).inc()
    _log_unknown(kind, ", ".join(names))


@lru_cache(1024)
def _log_unknown(kind: str, names: str) -> None:
    """Log once for each kind and set of names: a newer release sends many."""
    log.warning("message.unknown-fields", extra={"message_type": kind, "fields": names})


def is_newer(kind: type[BaseModel] | TypeAdapter[Any], data: bytes) -> bool:
    """Return whether only a newer release can read a message: a higher `v`, or a task or class that is unknown here."""
    try:
        if isinstance(kind, TypeAdapter):
            kind.validate_json(data)
        else:
            kind.model_validate_json(data)
    except ValidationError as failed:
        errors: list[Any] = failed.errors(include_url=False, include_context=False)
        return any(_has_higher_version(error) for error in errors) or all(_is_unknown_name(error) for error in errors)
    return False


def _has_higher_version(error: dict[str, Any]) -> bool:
    return error["loc"][-1:] == ("v",) and isinstance(error["input"], int) and error["input"] > 1


def _is_unknown_name(error: dict[str, Any]) -> bool:
    return error["type"] == "enum" and error["loc"][-1] in _NAMES_A_QUEUE and isinstance(error["input"], str)
