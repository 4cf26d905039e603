"""Turns errors into HTTP responses: the error's code becomes the status, its message the sentence.

The deployed client shows `detail` unchanged and accepts only a string.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match

from services.gateway.error_responses import error_response
from shared.errors import ArtMancerError, BrokerUnavailable, ImageNotFound, describe_invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    "deleted": 404,
    "conflict": 409,
    "wrong_last_sequence": 409,
    "job_failed": 500,
    "cancelled": 409,
    "busy": 429,
    "queue_full": 429,
    "unavailable": 503,
    "broker_unavailable": 503,
    "stopping": 503,
}
_BROKER_AWAY = "The service is not available at the moment, please try again."  # users do not know the term broker
_V1_STATUS = {"job_failed": 410, "cancelled": 410, "deleted": 410}  # the job failed, not this request
_SENTENCES = {404: "There is nothing at this address.", 405: "This address does not take this method."}
_UNEXPECTED = "Something went wrong. Try again; if it happens again, report the request id (X-Request-Id)."
_METHOD_NOT_ALLOWED, _CLIENT_GONE = 405, 499


def validation_message(errors: Sequence[Any]) -> str:
    """Return a sentence about the first error that pydantic found in a request."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return "The body is not valid JSON."
    field = [part for part in first["loc"] if part not in {"body", "query", "path", "header"}]
    return describe_invalid([{**first, "loc": field}], "request")


def install(app: FastAPI) -> None:
    """Register the handlers for every error."""
    handlers: dict[type[Exception], Any] = {
        ArtMancerError: _handle_artmancer_error,
        HTTPException: _handle_http_exception,
        RequestValidationError: _handle_invalid_request,
        ClientDisconnect: _handle_disconnect,
        Exception: _handle_unexpected,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _handle_artmancer_error(request: Request, error: ArtMancerError) -> Response:
    if error.code not in STATUS:
        log.error("http.error", extra={"code": error.code, "reason": error.message})
    sentence = _BROKER_AWAY if error.code == BrokerUnavailable.code else error.message
    return error_response(request.url.path, _status(request, error), sentence, error.code)


def _status(request: Request, error: ArtMancerError) -> int:
    if request.url.path.startswith("/v1/"):
        if error.code in _V1_STATUS:
            return _V1_STATUS[error.code]
        if isinstance(error, ImageNotFound) and request.method == "POST":
            return 422  # the missing image is named in the body, not in the path
    return STATUS.get(error.code, 500)


async def _handle_http_exception(request: Request, error: HTTPException) -> Response:
    headers = error.headers
    if error.status_code == _METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(_methods(request)) or (headers or {}).get("Allow", "")}
        if request.method == "OPTIONS":
            return Response(headers=headers)
    sentence = _SENTENCES.get(error.status_code, error.detail)
    return error_response(request.url.path, error.status_code, sentence, headers=headers)


def _methods(request: Request) -> list[str]:
    """Return the methods of all routes at this path; Starlette names those of the first route only."""
    routes = [route for route in request.app.state.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in routes for method in route.methods or ()})


async def _handle_invalid_request(request: Request, error: RequestValidationError) -> Response:
    return error_response(request.url.path, 422, validation_message(error.errors()))


async def _handle_disconnect(_: Request, __: ClientDisconnect) -> Response:
    return Response(status_code=_CLIENT_GONE)


async def _handle_unexpected(request: Request, _: Exception) -> Response:
    return error_response(request.url.path, 500, _UNEXPECTED)
