"""The SDK against a server that answers as the test wants: retries, uploads by hash, streams that break."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from typing import TYPE_CHECKING, Any, get_args

import httpx
import pytest

from services.cli import ApiError, ArtMancerError, AsyncClient, Client, JobEnded, Unreachable, WrongArguments
from services.cli.calls import Task, mask_query
from shared import messages

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "http://gateway"
PHOTO = b"a photo"
SHA = hashlib.sha256(PHOTO).hexdigest()
IMAGE = {"sha256": SHA, "width": 4, "height": 3, "content_type": "image/png", "bytes": 7}
JOB = {"id": "j1", "status": "queued"}
DONE = {**JOB, "status": "done"}
FAILED = {**JOB, "status": "failed", "error": {"code": "busy", "message": "No worker took it."}}


class Script:
    """Answers requests in order, and keeps them."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def seen(self) -> list[str]:
        """Return method and path of each request."""
        return [f"{request.method} {request.url.path}" for request in self.requests]


def client(script: Script, retry_s: float = 30.0) -> Client:
    """Return a client of the scripted server."""
    return Client(URL, "am_key", retry_s=retry_s, transport=httpx.MockTransport(script))


def ok(body: Any, status: int = 200) -> httpx.Response:
    """Return a JSON response."""
    return httpx.Response(status, json=body)


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    """Return an error as /v1 sends it."""
    return httpx.Response(status, json={"code": code, "detail": "A sentence."}, headers=headers)


def stream(*events: tuple[int, str]) -> httpx.Response:
    """Return a stream of events that ends after them."""
    text = "".join(f"id: {number}\nevent: {name}\ndata: {{}}\n\n" for number, name in events)
    return httpx.Response(200, text=": ping\n\n" + text, headers={"Content-Type": "text/event-stream"})


def test_the_sdk_offers_every_task() -> None:
    """Add a new task to `Task` in services/cli/calls.py: the SDK imports nothing from the services."""
    assert set(get_args(Task)) == {task.value for task in messages.Task}


def test_a_known_photo_is_not_sent_again() -> None:
    """Its hash is enough."""
    script = Script(httpx.Response(200))

    assert client(script).upload(PHOTO) == SHA
    assert script.seen == [f"HEAD /v1/images/{SHA}"]


def test_an_unknown_photo_is_sent_with_the_key() -> None:
    """As the body."""
    script = Script(httpx.Response(404), ok(IMAGE, 201))

    assert client(script).upload(PHOTO) == SHA
    assert script.requests[1].content == PHOTO
    assert {request.headers["Authorization"] for request in script.requests} == {"Bearer am_key"}


def test_a_busy_server_is_asked_again() -> None:
    """After the time that it names; a lost connection too. The job keeps its key, so it runs once."""
    script = Script(
        problem(429, "busy", **{"Retry-After": "0"}),
        httpx.ReadError("reset"),
        httpx.Response(503, text="<html>"),
        ok(JOB),
    )

    job = client(script).submit("white-balance", SHA)

    assert job.id == "j1"
    assert len({request.headers["Idempotency-Key"] for request in script.requests}) == 1


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (httpx.ConnectError("refused"), Unreachable, "refused"),
        (problem(503, "unavailable"), ApiError, "A sentence."),
        (httpx.Response(502, text="<html>"), ApiError, "status 502"),
        (problem(429, "queue_full", **{"Retry-After": "3600"}), ApiError, "A sentence."),
    ],
)
def test_retries_end(answer: httpx.Response | Exception, error: type[ArtMancerError], words: str) -> None:
    """The error is that of the last try."""
    with pytest.raises(error, match=words):
        client(Script(answer), retry_s=0).job("j1")


def test_a_missing_key_is_named() -> None:
    """The first request is a HEAD, and its answer has no body."""
    with pytest.raises(ApiError, match="needs an API key") as caught:
        client(Script(httpx.Response(401))).upload(PHOTO)

    assert caught.value.status == 401


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("TLS"), httpx.LocalProtocolError("Illegal header.")],
)
def test_what_will_never_work_is_not_tried_again(error: httpx.TransportError) -> None:
    """A wrong certificate is the same at the next try; the sentence has one full stop."""
    error.__cause__ = ssl.SSLError("wrong version number")
    script = Script(error)

    with pytest.raises(Unreachable, match=r"[a-zS]\.$"):
        client(script).job("j1")


def test_the_first_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Else a program seems to hang for a minute while the server is away."""
    client(Script(*[httpx.ConnectError("refused")] * 3, ok(JOB))).job("j1")

    assert caplog.messages == ["The server does not answer: refused. Trying again for 30 s."]


@pytest.mark.parametrize(
    ("url", "key"),
    [("localhost:8080", None), ("", None), ("ftp://a", None), ("http://", None), (URL, "schlüssel"), (URL, "a\nb")],
)
def test_an_address_or_a_key_that_cannot_be_is_refused_at_once(url: str, key: str | None) -> None:
    """With a sentence, and before anything is sent."""
    with pytest.raises(WrongArguments):
        Client(url, key)


def test_the_address_of_openais_clients_works_too() -> None:
    """It ends with /v1."""
    script = Script(ok(JOB))
    Client(f"{URL}/v1/", transport=httpx.MockTransport(script)).job("j1")

    assert script.seen == ["GET /v1/jobs/j1"]


def test_a_refusal_is_final() -> None:
    """Another try would get the same answer."""
    script = Script(problem(422, "bad_input"))

    with pytest.raises(ApiError) as caught:
        client(script).submit("removal", SHA)

    assert (caught.value.status, caught.value.code, len(script.requests)) == (422, "bad_input", 1)


def test_another_program_at_the_address_is_named() -> None:
    """Its answer is not shown."""
    with pytest.raises(ArtMancerError, match="check the address"):
        client(Script(httpx.Response(200, text="<html>"))).job("j1")


def test_a_broken_stream_goes_on_after_its_last_event() -> None:
    """No event is lost or doubled."""
    script = Script(stream((1, "queued"), (2, "started")), problem(503, "unavailable"), stream((3, "done")))

    events = list(client(script).events("j1"))

    assert [(event.id, event.name) for event in events] == [(1, "queued"), (2, "started"), (3, "done")]
    assert [request.headers.get("Last-Event-ID") for request in script.requests] == [None, "2", "2"]


def test_a_stream_without_further_events_ends() -> None:
    """The server answers 204 to a client that has them all."""
    assert list(client(Script(httpx.Response(204))).events("j1", after=7)) == []


def test_an_edit_without_a_result_is_an_error() -> None:
    """With the sentence of the job."""
    script = Script(ok(JOB), stream((1, "failed")), ok(FAILED))

    with pytest.raises(JobEnded, match=r"No worker took it\.") as caught:
        client(script).balance(SHA)

    assert caught.value.job.status == "failed"


def test_jobs_come_page_by_page() -> None:
    """Until there is no cursor."""
    script = Script(ok({"jobs": [JOB], "next_cursor": "c"}), ok({"jobs": [DONE], "next_cursor": None}))

    assert [job.status for job in client(script).jobs(status="done")] == ["queued", "done"]
    assert [dict(request.url.params).get("cursor") for request in script.requests] == [None, "c"]


@pytest.mark.parametrize(
    ("given", "query"),
    [
        ({}, {"auto": True}),
        ({"options": {"grow": 3}}, {"grow": 3, "auto": True}),
        ({"on": [(1, 2)], "off": [(3, 4)]}, {"points": [[1, 2, 1], [3, 4, 0]]}),
        ({"box": (1, 2, 3, 4)}, {"box": [1, 2, 3, 4]}),
    ],
)
def test_without_a_prompt_the_main_object_is_meant(given: dict[str, Any], query: dict[str, Any]) -> None:
    """A click or a box decides otherwise."""
    arguments = {"on": (), "off": (), "box": None, "options": {}} | given

    assert mask_query(**arguments) == query


def both(ask: Callable[[Any], Any]) -> list[tuple[str, str]]:
    """Run a call on both clients and return the requests of both; they must be equal."""
    answers = {"/v1/jobs": JOB, "/v1/masks": {"sha256": SHA, "score": 1, "engine": "e"}, "/v1/extractions": IMAGE}

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append((f"{request.method} {request.url.path}", request.content.decode(errors="replace")))
        return ok(answers.get(request.url.path, DONE))

    async def run() -> None:
        async with AsyncClient(URL, transport=httpx.MockTransport(handle)) as asynchronous:
            await ask(asynchronous)

    seen: list[tuple[str, str]] = []
    with Client(URL, transport=httpx.MockTransport(handle)) as synchronous:
        ask(synchronous)
    first = list(seen)
    seen.clear()
    asyncio.run(run())
    assert first == seen
    return first


@pytest.mark.parametrize(
    ("ask", "path", "fields"),
    [
        (lambda c: c.submit("removal", SHA, mask=SHA, key="k", seed=7), "POST /v1/jobs",
         {"task": "removal", "image": SHA, "mask": SHA, "seed": 7}),
        (lambda c: c.mask(SHA, box=(1, 2, 3, 4)), "POST /v1/masks", {"image": SHA, "box": [1, 2, 3, 4]}),
        (lambda c: c.cut_out(SHA, SHA), "POST /v1/extractions", {"image": SHA, "mask": SHA}),
        (lambda c: c.cut_out(SHA, SHA, frame="photo"), "POST /v1/extractions",
         {"image": SHA, "mask": SHA, "frame": "photo"}),
    ],
)  # fmt: skip
def test_both_clients_send_the_same(ask: Callable[[Any], Any], path: str, fields: dict[str, Any]) -> None:
    """They run the same generators."""
    sent = dict(both(ask))

    assert json.loads(sent[path]) == fields
