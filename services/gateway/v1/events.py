"""A job's events in the format of /v1: named, numbered by their stream sequence, resumable after each of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pydantic_core
from sse_starlette import ServerSentEvent
from starlette.responses import Response

from services.gateway.http.sse import EventStream
from services.gateway.v1.job_views import image_of, progress_of
from shared.jobs import fold
from shared.messages import Done

if TYPE_CHECKING:
    from services.gateway.core.jobs import Jobs
    from services.gateway.http.sse import Reader
    from shared.messages import JobEvent, JobRecord


async def job_stream(jobs: Jobs, record: JobRecord, after: int, reader: Reader) -> Response:
    """Stream the job's events after a sequence number until its terminal event.

    Respond 204 if the client has the terminal event: a browser's EventSource then stops reconnecting.
    Raises BrokerUnavailable.
    """
    if record.ended is not None and after >= record.last_seq:
        return Response(status_code=204)
    if record.ended is None or await jobs.is_end_stored(record.job_id):
        # From the first event: progress is a sum over all events.
        return EventStream(
            reader, b"", partial(jobs.open_frames, record.job_id, 0, _Events(after).frame, reader.heartbeat_s)
        )
    # The events have expired, and the record has the end.
    return EventStream(reader, frame(record.last_seq, record.ended, record))


class _Events:
    """The events after a sequence number, and the job's state."""

    __slots__ = ("_after", "_record")

    def __init__(self, after: int) -> None:
        self._after = after
        self._record: JobRecord | None = None

    def frame(self, seq: int, event: JobEvent) -> bytes:
        """Return the event's frame; b"" for one that the client has."""
        self._record = fold(self._record, event, seq)
        return frame(seq, event, self._record) if seq > self._after else b""


def frame(seq: int, event: JobEvent, record: JobRecord) -> bytes:
    """Return one event; `record` is the job's state after it."""
    facts = event.model_dump(mode="json", exclude={"v", "type"})
    if isinstance(event, Done):
        facts["result"] = image_of(event.result).model_dump()
        facts["patch"] = event.patch and image_of(event.patch).model_dump()
        facts |= {"windows": event.windows, "adapters": event.adapters}  # the message has none where they are empty
    facts |= {"status": record.state.value, "progress": progress_of(record)}
    data = pydantic_core.to_json(facts).decode()
    return ServerSentEvent(data, event=event.type, id=str(seq), sep="\n").encode()
