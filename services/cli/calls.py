"""The requests of each operation, without input or output: generators that yield calls and receive responses.

`Client` and `AsyncClient` run the same generators, so that both do the same.
"""

from __future__ import annotations

import hashlib
import mimetypes
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from .errors import ArtMancerError, JobEnded
from .models import FoundMasks, Image, Job, JobPage, Receipt

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Source: TypeAlias = str | Path | bytes
"""An image: the path of a file, its bytes, or the SHA-256 of a stored image."""
Task = Literal["removal", "insertion", "white-balance"]
_HASH_LENGTH = 64
_NOT_FOUND, _OK = 404, 200
_PROMPTS = frozenset({"points", "box", "strokes", "mask", "auto"})


@dataclass(frozen=True, slots=True)
class Call:
    """A request to send. A response with one of the statuses in `accepted` is not an error."""

    method: str
    path: str
    json: Mapping[str, Any] | None = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str | int] = field(default_factory=dict)
    accepted: frozenset[int] = frozenset()


Flow: TypeAlias = Generator[Call, httpx.Response, T]


def upload(source: Source) -> Flow[str]:
    """Return the SHA-256 of the image, and send its bytes only if the server lacks them."""
    if isinstance(source, str) and _is_hash(source):
        return source
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    known = yield Call("HEAD", f"/v1/images/{sha256}", accepted=frozenset({_NOT_FOUND}))
    if known.status_code != _OK:
        yield from send_image(data, None if isinstance(source, bytes) else str(source))
    return sha256


def send_image(data: bytes, name: str | None = None) -> Flow[Image]:
    """Send the bytes of an image and return its description; the name gives the content type."""
    kind = (mimetypes.guess_type(name)[0] if name else None) or "application/octet-stream"
    media_type = kind if kind.startswith("image/") else "application/octet-stream"
    answer = yield Call("POST", "/v1/images", content=data, headers={"Content-Type": media_type})
    return _parse(Image, answer)


def find_mask(image: Source, query: Mapping[str, Any]) -> Flow[FoundMasks]:
    """Return the masks that the server finds for a query."""
    sha256 = yield from upload(image)
    answer = yield Call("POST", "/v1/masks", json={"image": sha256, **query})
    return _parse(FoundMasks, answer)


def mask_query(
    on: Sequence[tuple[float, float]],
    off: Sequence[tuple[float, float]],
    box: tuple[float, float, float, float] | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the fields of a mask query: clicks on and off the object, a box, and options; x and y in pixels."""
    points = [[x, y, 1] for x, y in on] + [[x, y, 0] for x, y in off]
    query: dict[str, Any] = {"points": points} if points else {}
    if box is not None:
        query["box"] = list(box)
    prompted = query or not _PROMPTS.isdisjoint(options)
    return {**query, **options, **({} if prompted else {"auto": True})}


def submit(task: Task, images: Mapping[str, Source | None], key: str | None, options: Mapping[str, Any]) -> Flow[Job]:
    """Submit an edit and return the job; the same key and fields are the same job."""
    fields: dict[str, Any] = {"task": task}
    for name, source in images.items():
        if source is not None:
            fields[name] = yield from upload(source)
    fields |= {name: value for name, value in options.items() if value is not None}
    # A new key makes a retry safe: the server may have stored the job before the connection was lost.
    answer = yield Call("POST", "/v1/jobs", json=fields, headers={"Idempotency-Key": key or uuid.uuid4().hex})
    return _parse(Job, answer)


def read_job(job_id: str) -> Flow[Job]:
    """Return the state of a job."""
    answer = yield Call("GET", f"/v1/jobs/{job_id}")
    return _parse(Job, answer)


def list_jobs(status: str | None, cursor: str | None) -> Flow[tuple[list[Job], str | None]]:
    """Return one page of jobs, newest first, and the cursor of the next page."""
    params = {name: value for name, value in {"status": status, "cursor": cursor}.items() if value is not None}
    page = _parse(JobPage, (yield Call("GET", "/v1/jobs", params={**params, "limit": 100})))
    return page.jobs, page.next_cursor


def cancel(job_id: str) -> Flow[Job]:
    """Cancel a job and return its state."""
    answer = yield Call("DELETE", f"/v1/jobs/{job_id}")
    return _parse(Job, answer)


def result(job_id: str, query: Mapping[str, str | int]) -> Flow[bytes]:
    """Return the result of a job as the server stores it, or in the format of the query."""
    return (yield Call("GET", f"/v1/jobs/{job_id}/result", params=query)).content


def receipt(job_id: str) -> Flow[Receipt]:
    """Return the receipt of a job."""
    answer = yield Call("GET", f"/v1/jobs/{job_id}/receipt")
    return _parse(Receipt, answer)


def download(sha256: str) -> Flow[bytes]:
    """Return the bytes of a stored image."""
    return (yield Call("GET", f"/v1/images/{sha256}")).content


def cut_out(image: Source, mask: Source, options: Mapping[str, str]) -> Flow[str]:
    """Cut an object out and return the SHA-256 of its picture. The option `frame` is "square" or "photo"."""
    fields = {"image": (yield from upload(image)), "mask": (yield from upload(mask)), **options}
    answer = yield Call("POST", "/v1/extractions", json=fields)
    return _parse(Image, answer).sha256


def read_ended(job_id: str) -> Flow[Job]:
    """Return a job that is done. Raises JobEnded if it failed or was cancelled."""
    job = yield from read_job(job_id)
    if job.status != "done":
        raise JobEnded(job)
    return job


def _parse(model: type[M], response: httpx.Response) -> M:
    """Return the body as a model. Raises ArtMancerError if another program answered."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError:
        raise ArtMancerError("The server's answer is not one of ArtMancer's; check the address.") from None


def _is_hash(text: str) -> bool:
    return len(text) == _HASH_LENGTH and set(text) <= set("0123456789abcdef")
