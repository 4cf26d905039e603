"""The marks in the bucket `owned`, with the owners and sizes of the stored images. The last mark keeps the bytes.

An owner has a mark for each upload, and one for the result of each job. An unsettled job keeps its inputs as a mark
does, also an input that is a result. Decision 0027 has the order of the writes. The images of debug sessions have no
marks: the sessions name them.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from shared import subjects
from shared.messages import DebugSession
from shared.reading import read_or_skip
from shared.topology import OWNED, SESSIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.bus import Bus, StoredMessage
    from shared.image_store import ImageRemover
    from shared.messages import ImageRef

_MARK = re.compile(rb"([0-9]{1,10})([0-9]{10})?")
_RESULT_EXTRA = 64 * 1024
NEVER = 0
"""The time of use of a result that was edited further."""
REMOVED = b""
"""The body of a removed mark."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The time of the last use, in seconds since the epoch, and the size of the image."""

    used_at: int
    size_bytes: int


class Reservation(BaseModel):
    """An unsettled job: the hashes of its inputs, and the largest size of its result.

    `by_hand`: no gateway has submitted it, so any of them may release it.
    """

    inputs: list[str]
    result_bytes: int
    by_hand: bool = False

    @staticmethod
    def largest_result_bytes(pixels: int) -> int:
        """Return the largest size of the result of an edit: a PNG of noise is a little larger than its pixels."""
        return pixels * 3 + _RESULT_EXTRA


def write_mark(size_bytes: int, now: float | None = None) -> bytes:
    """Return the body of a mark: the time and, in ten digits, the size.

    Together they are at most 20 digits, which a gateway of release 0.1 reads as a time.
    """
    return f"{int(time.time() if now is None else now)}{size_bytes:010d}".encode()


def read_mark(body: bytes) -> Mark | None:
    """Return the mark; None for a removed one. A mark of release 0.1 has no size."""
    found = _MARK.fullmatch(body)
    return Mark(int(found[1]), int(found[2] or 0)) if found else None


async def mark_result(bus: Bus, owner: str, job_id: str, ref: ImageRef) -> None:
    """Mark the result of a job, before its bytes are stored: bytes without a mark could not be deleted.

    Raises BrokerUnavailable.
    """
    await bus.publish(subjects.result_mark(owner, job_id, ref.sha256), write_mark(ref.size_bytes))


async def unmark_result(bus: Bus, owner: str, job_id: str, sha256: str) -> None:
    """Remove the mark of a job's result. Raises BrokerUnavailable."""
    await bus.publish(subjects.result_mark(owner, job_id, sha256), REMOVED)


async def is_result_marked(bus: Bus, sha256: str) -> bool:
    """Return whether a job still has this result. Raises BrokerUnavailable."""
    return any(map(_is_mark, await bus.history(OWNED, subjects.result_marks_of(sha256))))


async def is_result_needed(bus: Bus, sha256: str) -> bool:
    """Return whether a job still has this result, or an unsettled one begins from it. Raises BrokerUnavailable."""
    if await is_result_marked(bus, sha256):
        return True
    waiting = [read_or_skip(Reservation, stored) for stored in await bus.history(OWNED, subjects.ALL_WAITING)]
    return any(job is not None and sha256 in job.inputs for job in waiting)


async def remove_debug_images(bus: Bus, images: ImageRemover, deleted: Iterable[DebugSession]) -> None:
    """Delete the images of deleted debug sessions that no other session has. Raises BrokerUnavailable."""
    hashes = _images_of(deleted)
    others = (read_or_skip(DebugSession, stored) for stored in await bus.history(SESSIONS, subjects.ALL_SESSIONS))
    for sha256 in sorted(hashes - _images_of(session for session in others if session)):
        await images.remove("debug", sha256, _never)


async def _never() -> bool:
    return False  # the sessions that need an image were read before


def _images_of(sessions: Iterable[DebugSession]) -> set[str]:
    return {image.sha256 for session in sessions for image in session.images}


def _is_mark(stored: StoredMessage) -> bool:
    return read_mark(stored.data) is not None
