"""The form of error responses: `{"detail": ...}` under /api, problem details (RFC 9457) under /v1.

`/v1/images/edits` is OpenAI's operation, so its errors have the form of that API.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBLEM = "application/problem+json"
EDITS_PATH = "/v1/images/edits"
"""Errors at this path have OpenAI's form."""
_RETRY_AFTER_S = {429: "5", 503: "2"}
_CODES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    421: "misdirected_request",
    429: "busy",
}
_OPENAI_CODES = {"unauthorized": "invalid_api_key", "busy": "rate_limit_exceeded", "queue_full": "rate_limit_exceeded"}
_OPENAI_TYPES = {429: "rate_limit_error"}
_UNPROCESSABLE, _BAD_REQUEST = 422, 400


def error_response(
    path: str,
    status: int,
    sentence: str,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    param: str | None = None,
) -> JSONResponse:
    """Return the response to a failed request. It repeats nothing of the request but the name of a field.

    `code` is the code of an error in shared/errors.py; by default it follows from the status. `param` is the field at
    fault, which only OpenAI's form names.
    """
    sent = {"Retry-After": _RETRY_AFTER_S[status]} if status in _RETRY_AFTER_S else {}
    sent |= headers or {}
    if not path.startswith("/v1/"):
        return JSONResponse({"detail": sentence}, status, sent)
    if path == EDITS_PATH:
        status = _BAD_REQUEST if status == _UNPROCESSABLE else status
        return JSONResponse({"error": openai_error(status, sentence, code or _code_of(status), param)}, status, sent)
    facts = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": sentence,
        "code": code or _code_of(status),
    }
    return JSONResponse(facts, status, sent, media_type=PROBLEM)


def openai_error(status: int, sentence: str, code: str, param: str | None = None) -> dict[str, Any]:
    """Return the value of `error` in an answer of OpenAI's API; its clients choose their exception by the status."""
    is_own = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind = _OPENAI_TYPES.get(status, "server_error" if is_own else "invalid_request_error")
    return {"message": sentence, "type": kind, "param": param, "code": _OPENAI_CODES.get(code, code)}


def _code_of(status: int) -> str:
    return _CODES.get(status, "bad_input" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal")
