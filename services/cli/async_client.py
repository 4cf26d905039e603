"""The asynchronous client."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import httpx
import httpx_sse

from . import calls
from .errors import JobEnded
from .retries import Retries
from .transport import DEFAULT_URL, NO_MORE_EVENTS, STREAM_TIMEOUT, event_of, http_options, resume_headers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from typing import Self

    from .calls import Call, Flow, Source, T, Task
    from .models import Event, FoundMasks, Job, Receipt


class AsyncClient:
    """A client of one server for asyncio, with the methods of `Client`. Use it as a context manager, or close it.

    Every method retries for `retry_s` seconds while the server is busy or away, and raises ApiError, or Unreachable.
    An image is the path of a file, its bytes, or the SHA-256 of a stored image.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        retry_s: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**http_options(url, key), transport=transport)
        self._retry_s = retry_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def upload(self, image: Source) -> str:
        """Return the SHA-256 of an image; its bytes are sent only if the server lacks them."""
        return await self._run(calls.upload(image))

    async def mask(
        self,
        image: Source,
        *,
        on: Sequence[tuple[float, float]] = (),
        off: Sequence[tuple[float, float]] = (),
        box: tuple[float, float, float, float] | None = None,
        **options: Any,
    ) -> FoundMasks:
        """Find an object by clicks on and off it or by a box, in pixels; without any, the main object.

        `options` are further fields of `POST /v1/masks`, such as `grow`, `feather` and `candidates`.
        """
        return await self._run(calls.find_mask(image, calls.mask_query(on, off, box, options)))

    async def submit(
        self,
        task: Task,
        image: Source,
        *,
        mask: Source | None = None,
        reference: Source | None = None,
        reference_mask: Source | None = None,
        key: str | None = None,
        **options: Any,
    ) -> Job:
        """Submit an edit and return at once. The same `key` and fields are the same job, also after a restart.

        `options` are further fields of `POST /v1/jobs`, such as `prompt`, `seed`, `temperature` and `class`.
        """
        images = {"image": image, "mask": mask, "reference": reference, "reference_mask": reference_mask}
        return await self._run(calls.submit(task, images, key, options))

    async def remove(self, image: Source, mask: Source, **options: Any) -> bytes:
        """Remove the masked object and return the new picture. Raises JobEnded if the job has no result."""
        return await self._finish(await self.submit("removal", image, mask=mask, **options))

    async def insert(self, image: Source, mask: Source, reference: Source, **options: Any) -> bytes:
        """Insert the object of the reference into the masked region; return and raise as `remove`."""
        return await self._finish(await self.submit("insertion", image, mask=mask, reference=reference, **options))

    async def balance(self, image: Source, **options: Any) -> bytes:
        """Correct the white balance; return and raise as `remove`."""
        return await self._finish(await self.submit("white-balance", image, **options))

    async def cut_out(self, image: Source, mask: Source, **options: str) -> bytes:
        """Cut the masked object out and return its picture; with `frame="photo"` at full size, where it stood."""
        return await self.download(await self._run(calls.cut_out(image, mask, options)))

    async def job(self, job_id: str) -> Job:
        """Return the state of a job."""
        return await self._run(calls.read_job(job_id))

    async def jobs(self, status: str | None = None) -> AsyncIterator[Job]:
        """Yield your jobs, newest first, optionally only those in one state."""
        cursor: str | None = None
        while True:
            found, cursor = await self._run(calls.list_jobs(status, cursor))
            for job in found:
                yield job
            if cursor is None:
                return

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job and return its state. An ended job does not change."""
        return await self._run(calls.cancel(job_id))

    async def events(self, job_id: str, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the events of a job up to its last one, over lost connections too. Raises Unreachable, ApiError."""
        retries = Retries(self._retry_s)
        while True:
            try:
                async with aclosing(self._stream(job_id, after, retries)) as events:
                    async for event in events:
                        if event is None:
                            return
                        after, retries = event.id, Retries(self._retry_s)
                        yield event
                        if event.is_last:
                            return
                pause_s = retries.after_error(httpx.TransportError("the stream ended early"))
            except httpx.TransportError as error:
                pause_s = retries.after_error(error)
            await asyncio.sleep(pause_s)

    async def wait(self, job_id: str) -> Job:
        """Wait until a job is done and return it. Raises JobEnded if it failed or was cancelled."""
        async with aclosing(self.events(job_id)) as events:
            async for _ in events:
                pass
        return await self._run(calls.read_ended(job_id))

    async def result(self, job_id: str, **query: str | int) -> bytes:
        """Return the result of a job that is done: the stored PNG, or another format with the photo's camera data.

        `query` is `format` (original, png, jpeg, webp or avif), `quality` (1 to 100) and `gps` (keep or drop).
        """
        return await self._run(calls.result(job_id, query))

    async def receipt(self, job_id: str) -> Receipt:
        """Return the receipt of a job that is done."""
        return await self._run(calls.receipt(job_id))

    async def download(self, sha256: str) -> bytes:
        """Return the bytes of a stored image."""
        return await self._run(calls.download(sha256))

    async def _finish(self, job: Job) -> bytes:
        if job.has_ended and job.status != "done":
            raise JobEnded(job)
        return await self.result((await self.wait(job.id)).id)

    async def _run(self, flow: Flow[T]) -> T:
        try:
            call = next(flow)
            while True:
                call = flow.send(await self._send(call))
        except StopIteration as end:
            value: T = end.value
            return value

    async def _send(self, call: Call) -> httpx.Response:
        retries = Retries(self._retry_s)
        while True:
            try:
                response = await self._http.request(
                    call.method,
                    call.path,
                    json=call.json,
                    content=call.content,
                    headers=call.headers,
                    params=call.params,
                )
                pause_s = retries.after_response(response, call.accepted)
            except httpx.TransportError as error:
                pause_s = retries.after_error(error)
            if pause_s is None:
                return response
            await asyncio.sleep(pause_s)

    async def _stream(self, job_id: str, after: int, retries: Retries) -> AsyncGenerator[Event | None, None]:
        headers, path = resume_headers(after), f"/v1/jobs/{job_id}/events"
        async with httpx_sse.aconnect_sse(self._http, "GET", path, headers=headers, timeout=STREAM_TIMEOUT) as source:
            if not source.response.is_success:
                await source.response.aread()
            pause_s = retries.after_response(source.response, frozenset())
            if pause_s is not None:
                await asyncio.sleep(pause_s)
                return
            if source.response.status_code == NO_MORE_EVENTS:
                yield None
                return
            async for sent in source.aiter_sse():
                if event := event_of(sent):
                    yield event
