"""Request and reply between services, over nats.micro so that `nats micro ls` lists them.

nats.micro runs one request at a time for each endpoint, so the handler here only starts a task. Above the limit of
requests in flight it replies Busy at once: callers see that, but not a queue inside the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import nats.errors
import nats.micro
from opentelemetry.trace import SpanKind, Status, StatusCode

from shared import VERSION, deadlines, metrics, tracing, versions
from shared.connection import translate_errors
from shared.deadlines import Clocks
from shared.errors import ArtMancerError, BadMessage, Busy, Stopping, TooLarge, Unavailable, from_code
from shared.reading import read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
    from nats.micro.request import Request
    from nats.micro.service import EndpointStats

    from shared.bus import Bus
    from shared.deadlines import Deadline
    from shared.messages import Message

Q = TypeVar("Q", bound="Message")
R = TypeVar("R", bound="Message")
log = logging.getLogger(__name__)
_ERROR, _ERROR_CODE = "Nats-Service-Error", "Nats-Service-Error-Code"  # as the micro protocol names them
_CLOCKS = Clocks()
_UNSUBSCRIBE_S = 1.0  # a healthy broker confirms in a millisecond


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[Q]):
    """One request type that a service handles; `handle` may raise any ArtMancerError."""

    subject: str
    request: type[Q]
    handle: Callable[[Q], Awaitable[Message]]
    limit: int = 64
    """The most requests in flight, running or waiting; the reply to the next one is Busy."""
    everywhere: bool = False
    """Whether each instance receives every request, and not one of them."""


@dataclass(slots=True)
class _Counts:
    """The outcomes of the requests to one endpoint."""

    requests: int = 0
    errors: int = 0
    taken_ns: int = 0
    last_error: str | None = None

    def add(self, taken_ns: int, error: ArtMancerError | None) -> None:
        """Count a request that was answered or dropped."""
        self.requests += 1
        self.taken_ns += taken_ns
        if error is not None:
            self.errors += 1
            self.last_error = f"{error.code}: {error.message}"

    def fill(self, stats: EndpointStats) -> None:
        """Replace the statistics of nats.micro, which measure only the start of the task."""
        stats.num_requests = self.requests
        stats.num_errors = self.errors
        stats.last_error = self.last_error
        stats.processing_time = self.taken_ns
        stats.average_processing_time = self.taken_ns // max(1, self.requests)


async def call(bus: Bus, subject: str, request: Message, reply: type[R], *, timeout_s: float) -> R:
    """Send a request to one instance and return its reply.

    Raises TooLarge for a request over the broker's limit, Unavailable without a listener, after the timeout or for a
    reply of another version, and the errors that the service raised.
    """
    body, headers = _write(request, timeout_s)
    with _naming(subject):
        answer = await bus.request(subject, body, timeout_s=timeout_s, headers=headers)
    return _read_reply(subject, reply, answer)


async def call_all(
    bus: Bus, subject: str, request: Message, reply: type[R], *, timeout_s: float, more_s: float
) -> list[R]:
    """Send a request to an endpoint that is `everywhere`; return the replies until `more_s` after the first.

    A broker that lets one reply through returns one. Raises the errors of `call`, if no instance replies well.
    """
    body, headers = _write(request, timeout_s)
    with _naming(subject):
        answers = await bus.request_all(subject, body, timeout_s=timeout_s, more_s=more_s, headers=headers)
    replies: list[R] = []
    for answer in answers:
        try:
            replies.append(_read_reply(subject, reply, answer))
        except ArtMancerError:
            if answer is answers[-1] and not replies:
                raise
    return replies


def _write(request: Message, timeout_s: float) -> tuple[bytes, dict[str, str]]:
    headers = deadlines.headers_for(timeout_s)
    tracing.inject(headers)
    return request.model_dump_json(exclude_none=True).encode(), headers


@contextlib.contextmanager
def _naming(subject: str) -> Iterator[None]:
    """Raise Unavailable with the name of the service if no instance runs or answers in time."""
    try:
        yield
    except ArtMancerError as error:
        if isinstance(error.__cause__, nats.errors.NoRespondersError):
            raise Unavailable(f"The service {_service_of(subject)} is not running.") from error
        if isinstance(error.__cause__, TimeoutError):
            raise Unavailable(f"The service {_service_of(subject)} did not answer in time.") from error
        raise


def _read_reply(subject: str, reply: type[R], answer: Msg) -> R:
    headers = answer.headers or {}
    if _ERROR_CODE in headers:
        raise from_code(headers[_ERROR_CODE], headers.get(_ERROR, ""))
    try:
        return read(reply, answer.data)
    except BadMessage as error:
        raise Unavailable(f"The service {_service_of(subject)} sent a reply of another version.") from error


_NAMES = {"seg": "segmentation", "img": "image_utils", "job": "job_manager"}


def _service_of(subject: str) -> str:
    """Return the service's name in `svc.<service>.<verb>`, `svc.health.<service>` or `svc.worker.<worker>.<verb>`."""
    _, service, verb, *_ = subject.split(".")
    if service == "worker":
        return f"worker {verb}"
    return verb if service == "health" else _NAMES.get(service, service)


@asynccontextmanager
async def serve(
    bus: Bus,
    name: str,
    endpoints: list[Endpoint[Any]],
    *,
    drain_s: float = 3.0,
    clocks: Clocks = _CLOCKS,
    metadata: dict[str, str] | None = None,
) -> AsyncIterator[None]:
    """Serve the endpoints while the block runs; at its end, finish the requests in flight within `drain_s`.

    `clocks` count the time that a caller waits. `nats micro info` shows the metadata as they are at that moment.
    """
    in_flight: set[asyncio.Task[None]] = set()
    client = _DrainingClient(bus.client)
    counts = {endpoint.subject: _Counts() for endpoint in endpoints}
    with translate_errors():
        service = await nats.micro.add_service(
            cast("Client", client),
            name=name,
            version=VERSION,
            queue_group="q",
            metadata=metadata,
            stats_handler=lambda stats: counts[stats.subject].fill(stats),
        )
        for endpoint in endpoints:
            await service.add_endpoint(
                name=endpoint.subject.replace(".", "-"),
                subject=endpoint.subject,
                handler=_handler(endpoint, counts[endpoint.subject], in_flight, clocks),
                queue_group=f"q-{uuid.uuid4().hex}" if endpoint.everywhere else None,  # in a group one receives it
            )
        await bus.client.flush()  # from here on the broker routes requests to us
    try:
        yield
    finally:
        end = time.monotonic() + drain_s
        await client.drain(min(_UNSUBSCRIBE_S, drain_s))
        while in_flight and (left_s := end - time.monotonic()) > 0:  # a broker that hung may deliver more requests
            await asyncio.wait(in_flight, timeout=left_s)
        for task in list(in_flight):
            task.cancel()
        await asyncio.gather(*in_flight, return_exceptions=True)


class _DrainingClient:
    """A client for nats.micro that drains. Unsubscribing, as nats.micro does, loses requests in transit."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._subscriptions: list[Subscription] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def subscribe(self, *args: Any, **options: Any) -> Subscription:
        """Subscribe, and remember the subscription for `drain`."""
        self._subscriptions.append(await self._client.subscribe(*args, **options))
        return self._subscriptions[-1]

    async def drain(self, timeout_s: float) -> None:
        """Unsubscribe and receive the requests that were routed to us before. Gives up after the timeout."""
        ending = [
            asyncio.create_task(each.drain(), name="rpc.drain")  # type: ignore[no-untyped-call]
            for each in self._subscriptions
        ]
        _, late = await asyncio.wait(ending, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


def _handler(
    endpoint: Endpoint[Any], counts: _Counts, all_in_flight: set[asyncio.Task[None]], clocks: Clocks
) -> Callable[[Request], Awaitable[None]]:
    mine: set[asyncio.Task[None]] = set()

    async def start(request: Request) -> None:
        if len(mine) >= endpoint.limit:
            counts.add(0, await _refuse(request, Busy()))
            return
        try:
            deadline = deadlines.receive(endpoint.subject, request.headers, clocks)
        except BadMessage as error:
            counts.add(0, await _refuse(request, error))
            return
        task = asyncio.create_task(_run(endpoint, counts, request, deadline), name=f"rpc.{endpoint.subject}")
        for tasks in (mine, all_in_flight):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    return start


async def _run(endpoint: Endpoint[Any], counts: _Counts, request: Request, deadline: Deadline) -> None:
    began_ns = time.perf_counter_ns()
    deadlines.enter(deadline)
    with tracing.span(endpoint.subject, parent=tracing.extract(request.headers), kind=SpanKind.SERVER) as span:
        error = await _answer(endpoint, request, deadline)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, error.code))
    took_ns = time.perf_counter_ns() - began_ns
    counts.add(took_ns, error)
    metrics.RPC_SECONDS.labels(endpoint.subject, error.code if error else "ok").observe(took_ns / 1e9)


async def _answer(endpoint: Endpoint[Any], request: Request, deadline: Deadline) -> ArtMancerError | None:
    """Handle one request and reply; return the error if the reply was one."""
    try:
        deadline.check()
        reply = await endpoint.handle(_read_request(endpoint, request.data))
        await request.respond(reply.model_dump_json(exclude_none=True).encode())
    except nats.errors.MaxPayloadError:
        log.warning("rpc.reply-too-large", extra={"subject": endpoint.subject})
        return await _refuse(request, TooLarge("The reply does not fit into one message; ask for less."))
    except ArtMancerError as error:
        return await _refuse(request, error)
    except asyncio.CancelledError:
        await _refuse(request, Stopping())  # or its caller would wait until its timeout
        raise
    except nats.errors.Error as error:
        log.warning("rpc.reply-lost", extra={"subject": endpoint.subject, "reason": type(error).__name__})
        return Unavailable("The reply was lost.")
    except Exception:  # the request boundary: one failed request must not stop the service
        log.exception("rpc.failed", extra={"subject": endpoint.subject})
        return await _refuse(request, ArtMancerError())
    return None


def _read_request(endpoint: Endpoint[Any], data: bytes) -> Message:
    """Return the request. Raises BadMessage, and Unavailable for one that only a newer release may act on."""
    try:
        return cast("Message", read(endpoint.request, data))
    except BadMessage as error:
        if versions.is_newer(endpoint.request, data):
            raise Unavailable(
                f"The service {_service_of(endpoint.subject)} is of an older release than its caller; update it."
            ) from error
        raise


async def _refuse(request: Request, error: ArtMancerError) -> ArtMancerError:
    with contextlib.suppress(nats.errors.Error, ConnectionError, ValueError):  # ValueError: without a reply subject
        await request.respond_error(error.code, " ".join(error.message.split()))
    return error
