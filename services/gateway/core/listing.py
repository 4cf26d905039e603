"""Lists an owner's jobs page by page, from the job manager's view in the broker."""

from __future__ import annotations

import asyncio
import base64
import binascii
import struct
from typing import TYPE_CHECKING

from shared.errors import BadInput
from shared.job_events import load_record
from shared.messages import JobRecord, JobState
from shared.reading import read_or_skip
from shared.tombstones import deleted_jobs
from shared.topology import JOBS

if TYPE_CHECKING:
    from services.gateway.access.ownership import Ownership
    from shared.bus import Bus, StoredMessage

    Position = tuple[float, str]
    """The time a job was created, in seconds since the epoch, and its id."""

_CREATED_AT = struct.Struct(">d")


async def list_page(
    bus: Bus, ownership: Ownership, owner: str, *, status: JobState | None, limit: int, cursor: str | None
) -> tuple[list[JobRecord], str | None]:
    """Return a page, newest first, and the next page's cursor or None. Raises BadInput, BrokerUnavailable.

    The view has a job as soon as it is queued, but not its steps. Running jobs are therefore read from their events.
    """
    before = _parse_cursor(cursor) if cursor else None
    stored = await bus.history(JOBS, ownership.job_records(owner))
    deleted = await deleted_jobs(bus, owner)
    records = await asyncio.to_thread(
        _select, stored, status, before, deleted
    )  # 10 µs each, and there may be thousands
    page, has_more = records[:limit], len(records) > limit
    return await asyncio.gather(*(_refresh(bus, record) for record in page)), _cursor(page[-1]) if has_more else None


def _select(
    stored: list[StoredMessage], status: JobState | None, before: Position | None, deleted: set[str]
) -> list[JobRecord]:
    found = []
    for entry in stored:
        record = read_or_skip(JobRecord, entry)
        if record is None or record.job_id in deleted:
            continue
        if status in {None, record.state} and (before is None or _position(record) < before):
            found.append(record)
    return sorted(found, key=_position, reverse=True)


async def _refresh(bus: Bus, record: JobRecord) -> JobRecord:
    if record.state is not JobState.RUNNING:
        return record
    return await load_record(bus, record.job_id) or record


def _position(record: JobRecord) -> Position:
    return record.created_at, record.job_id


def _cursor(last: JobRecord) -> str:
    raw = _CREATED_AT.pack(last.created_at) + last.job_id.encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _parse_cursor(cursor: str) -> Position:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return _CREATED_AT.unpack(raw[:8])[0], raw[8:].decode()
    except (binascii.Error, struct.error, ValueError):
        raise BadInput("The field cursor must be the next_cursor of a page.") from None
