"""The form of error responses: `{"detail": ...}` under /api, problem details (RFC 9457) under /v1."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBLEM = "application/problem+json"
_RETRY_AFTER_S = {429: "5", 503: "2"}
_CODES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    421: "misdirected_request",
    429: "busy",
}


def error_response(
    path: str, status: int, sentence: str, code: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the response to a failed request. It repeats nothing of the request but the name of a field.

    `code` is the code of an error in shared/errors.py; by default it follows from the status.
    """
    sent = {"Retry-After": _RETRY_AFTER_S[status]} if status in _RETRY_AFTER_S else {}
    sent |= headers or {}
    if not path.startswith("/v1/"):
        return JSONResponse({"detail": sentence}, status, sent)
    facts = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": sentence,
        "code": code or _CODES.get(status, "bad_input" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal"),
    }
    return JSONResponse(facts, status, sent, media_type=PROBLEM)
