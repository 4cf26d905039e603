"""A user's jobs, newest first, part by part, out of the view that the job manager keeps."""

from __future__ import annotations

import asyncio
import base64
import binascii
import struct
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared import subjects
from shared.errors import BadInput
from shared.job_events import load_record
from shared.messages import JobRecord, JobState
from shared.topology import JOBS

if TYPE_CHECKING:
    from shared.bus import Bus, StoredMessage

    Place = tuple[float, str]
    """When a job was created, and its id."""

_WHEN = struct.Struct(">d")


async def page(
    bus: Bus, user: str, *, status: JobState | None, limit: int, cursor: str | None
) -> tuple[list[JobRecord], str | None]:
    """Return the next part, and the cursor behind it if there is more. Raises BadInput, BrokerUnavailable.

    A job is in the view as soon as it has been queued; steps are not, so what runs is read from its events.
    """
    before = _read(cursor) if cursor else None
    stored = await bus.history(JOBS, subjects.job_records_of(user))
    records = await asyncio.to_thread(_selected, stored, status, before)  # 10 µs each, and there may be thousands
    shown, more = records[:limit], len(records) > limit
    return await asyncio.gather(*(_now(bus, record) for record in shown)), _cursor(shown[-1]) if more else None


def _selected(stored: list[StoredMessage], status: JobState | None, before: Place | None) -> list[JobRecord]:
    found = []
    for entry in stored:
        try:
            record = JobRecord.model_validate_json(entry.data)
        except ValidationError:  # a mark of deletion, or not of our making
            continue
        if status in {None, record.state} and (before is None or _place(record) < before):
            found.append(record)
    return sorted(found, key=_place, reverse=True)


async def _now(bus: Bus, record: JobRecord) -> JobRecord:
    if record.state is not JobState.RUNNING:
        return record
    return await load_record(bus, record.job_id) or record


def _place(record: JobRecord) -> Place:
    return record.created_at, record.job_id


def _cursor(last: JobRecord) -> str:
    raw = _WHEN.pack(last.created_at) + last.job_id.encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read(cursor: str) -> Place:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return _WHEN.unpack(raw[:8])[0], raw[8:].decode()
    except (binascii.Error, struct.error, ValueError):
        raise BadInput("The field cursor is not one that a listing gave.") from None
