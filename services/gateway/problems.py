"""From an error to an HTTP answer: its code becomes the status, the body is `{"detail": "<one sentence>"}`.

The deployed client shows `detail` as it is and can only use a string; nothing that was sent is ever echoed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from shared.errors import ArtMancerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI
    from starlette.requests import Request

log = logging.getLogger(__name__)

STATUS = {
    "bad_input": 422,
    "bad_image": 422,
    "too_large": 413,
    "bad_message": 422,
    "nothing_found": 422,
    "not_found": 404,
    "image_not_found": 404,
    "conflict": 409,
    "wrong_last_sequence": 409,
    "job_failed": 500,
    "cancelled": 409,
    "busy": 429,
    "queue_full": 429,
    "unavailable": 503,
    "broker_unavailable": 503,
}
_RETRY_AFTER_S = {429: "5", 503: "2"}
_SENTENCES = {404: "There is nothing at this address.", 405: "This address does not take this method."}
_UNEXPECTED = "Something went wrong."
_NO_METHOD, _CLIENT_GONE = 405, 499


def problem(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Make the answer to a request that failed."""
    after = {"Retry-After": _RETRY_AFTER_S[status]} if status in _RETRY_AFTER_S else {}
    return JSONResponse({"detail": sentence}, status, {**after, **(headers or {})})


def first_problem(errors: Sequence[Any]) -> str:
    """Say in a sentence what is wrong with a request that pydantic refused."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return "The body is not valid JSON."
    place = ".".join(str(part) for part in first["loc"] if part not in {"body", "query", "path", "header"})
    message = first["msg"][0].lower() + first["msg"][1:]
    if not place:
        return f"The request is not valid: {message}."
    return f"The field {place} is not valid: {message}."


def install(app: FastAPI) -> None:
    """Make the app answer every error in this way."""
    handlers: dict[type[Exception], Any] = {
        ArtMancerError: _answer_ours,
        HTTPException: _answer_http,
        RequestValidationError: _answer_invalid,
        ClientDisconnect: _answer_nobody,
        Exception: _answer_unexpected,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _answer_ours(_: Request, error: ArtMancerError) -> Response:
    if error.code not in STATUS:
        log.error("http.error", extra={"code": error.code, "reason": error.message})
    return problem(STATUS.get(error.code, 500), error.message)


async def _answer_http(request: Request, error: HTTPException) -> Response:
    if error.status_code == _NO_METHOD and request.method == "OPTIONS":
        return Response(headers=error.headers)
    return problem(error.status_code, _SENTENCES.get(error.status_code, error.detail), error.headers)


async def _answer_invalid(_: Request, error: RequestValidationError) -> Response:
    return problem(422, first_problem(error.errors()))


async def _answer_nobody(_: Request, __: ClientDisconnect) -> Response:
    return Response(status_code=_CLIENT_GONE)


async def _answer_unexpected(_: Request, __: Exception) -> Response:
    return problem(500, _UNEXPECTED)
