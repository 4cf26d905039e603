"""A job's states as server-sent events for the deployed client.

Its parser reads `data:` lines and comments only, each followed by a blank line, with LF line ends. The end of the body
must follow the terminal event at once: the client then fetches the result.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from services.gateway.api.job_views import status_of
from services.gateway.http.sse import EventStream
from shared.jobs import fold

if TYPE_CHECKING:
    from services.gateway.core.jobs import Jobs
    from services.gateway.http.sse import Reader
    from shared.messages import JobEvent, JobRecord


def job_stream(jobs: Jobs, record: JobRecord, reader: Reader) -> EventStream:
    """Stream the job's state, now and after each change, until its terminal state."""
    first = frame(record)
    if record.ended is not None:
        return EventStream(reader, first)
    states = _States(record, first)
    return EventStream(
        reader, first, partial(jobs.open_frames, record.job_id, record.last_seq, states.frame, reader.heartbeat_s)
    )


class _States:
    """The job's state, as far as it was sent."""

    __slots__ = ("_record", "_sent")

    def __init__(self, record: JobRecord, sent: bytes) -> None:
        self._record = record
        self._sent = sent

    def frame(self, seq: int, event: JobEvent) -> bytes:
        """Return the state after the event; b"" if it does not differ for the client.

        It estimates the time left from the gaps between steps, so none is repeated.
        """
        self._record = fold(self._record, event, seq)
        latest = frame(self._record)
        if latest == self._sent:
            return b""
        self._sent = latest
        return latest


def frame(record: JobRecord) -> bytes:
    """Return the job's state as one event."""
    return b"data: " + status_of(record).model_dump_json().encode() + b"\n\n"
