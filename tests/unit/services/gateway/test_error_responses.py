"""Error responses under /api and under /v1."""

from __future__ import annotations

import json

import pytest

from services.gateway.error_responses import error_response


def test_under_api_there_is_only_a_detail() -> None:
    """The deployed client shows it unchanged."""
    answer = error_response("/api/generate/async", 422, "No.", "bad_input")

    assert json.loads(bytes(answer.body)) == {"detail": "No."}
    assert answer.headers["content-type"] == "application/json"


def test_under_v1_there_are_problem_details() -> None:
    """RFC 9457, and a code for programs."""
    answer = error_response("/v1/jobs", 404, "No such job.", "not_found")

    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": "about:blank", "title": "Not Found", "status": 404, "detail": "No such job.", "code": "not_found"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "code", "sent", "kind", "word"),
    [
        (422, "bad_image", 400, "invalid_request_error", "bad_image"),
        (401, None, 401, "invalid_request_error", "invalid_api_key"),
        (429, "queue_full", 429, "rate_limit_error", "rate_limit_exceeded"),
        (503, "unavailable", 503, "server_error", "unavailable"),
    ],
)
def test_edits_have_the_errors_of_openai(status: int, code: str | None, sent: int, kind: str, word: str) -> None:
    """Its clients choose their exception by the status, and read the field, the kind and the code."""
    answer = error_response("/v1/images/edits", status, "No.", code, param="image")

    assert answer.status_code == sent
    assert json.loads(bytes(answer.body)) == {
        "error": {"message": "No.", "type": kind, "param": "image", "code": word}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "bad_input"), (404, "not_found"), (405, "method_not_allowed"), (413, "too_large"), (500, "internal")],
)
def test_a_code_follows_from_the_status(status: int, code: str) -> None:
    """Framework errors have no code of their own."""
    assert json.loads(bytes(error_response("/v1/x", status, "No.").body))["code"] == code


@pytest.mark.parametrize("path", ["/api/x", "/v1/x"])
@pytest.mark.parametrize("status", [429, 503])
def test_who_shall_come_again_is_told_when(path: str, status: int) -> None:
    """In seconds."""
    assert int(error_response(path, status, "No.").headers["retry-after"]) > 0
