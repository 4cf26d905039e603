"""The answer to an edit that is not streamed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pydantic_core
from starlette.responses import JSONResponse, Response, StreamingResponse

from services.gateway.core.pieces import join_parts, length_of, wrap_picture
from services.gateway.v1.image_edits.refusal import Refused
from services.gateway.v1.image_edits.schemas import no_usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.gateway.v1.image_edits.batch import Outcome
    from services.gateway.v1.image_edits.schemas import EditFields
    from shared.image_store import StreamedStore
    from shared.messages import ImageRef

_SEPARATOR, _END = b",", b"]}"


def answer_images(images: StreamedStore, fields: EditFields, size: str, outcomes: Sequence[Outcome]) -> Response:
    """Return the images as base64, in order. A failed one has its error. Raises Refused if all have failed."""
    _require_one(outcomes)
    head = pydantic_core.to_json(_facts(fields, size)).removesuffix(b"}")
    parts: list[bytes | ImageRef] = [head, b',"data":[']
    for number, outcome in enumerate(outcomes):
        parts.append(_SEPARATOR if number else b"")
        if outcome.result is None:
            parts.append(pydantic_core.to_json({"b64_json": None, **_failure(outcome)}))
        else:
            before, after = wrap_picture({"job_id": outcome.job_id})
            parts += [before, outcome.result, after]
    parts.append(_END)
    headers = {"Content-Length": str(length_of(parts))}
    return StreamingResponse(join_parts(images, parts), headers=headers, media_type="application/json")


def answer_urls(
    url_of: Callable[[str | None, ImageRef], str], fields: EditFields, size: str, outcomes: Sequence[Outcome]
) -> Response:
    """Return the addresses of the images, by job id and image, in order; errors as in `answer_images`."""
    _require_one(outcomes)
    data: list[dict[str, Any]] = [
        {"url": None, **_failure(outcome)}
        if outcome.result is None
        else {"url": url_of(outcome.job_id, outcome.result), "job_id": outcome.job_id}
        for outcome in outcomes
    ]
    return JSONResponse({**_facts(fields, size), "data": data})


def _facts(fields: EditFields, size: str) -> dict[str, Any]:
    facts = {"created": int(time.time()), "output_format": fields.output_format, "size": size, "usage": no_usage()}
    return facts | ({"safety_identifier": fields.identifier} if fields.identifier else {})


def _failure(outcome: Outcome) -> dict[str, Any]:
    return {"job_id": outcome.job_id, "error": outcome.error}


def _require_one(outcomes: Sequence[Outcome]) -> None:
    if all(outcome.result is None for outcome in outcomes):
        first = outcomes[0]
        error = first.error or {}
        raise Refused(error["code"], error["message"], None, first.status)
