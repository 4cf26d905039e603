"""The one reader of messages from the bus."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from shared.bus import StoredMessage
from shared.errors import BadMessage
from shared.messages import JOB_EVENT, JobSubmit, RedriveRequest
from shared.reading import log_malformed, read, read_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "a-secret-prompt"  # noqa: S105 (a word to look for)


@pytest.fixture(autouse=True)
def nothing_logged_yet() -> Iterator[None]:
    """Forget the logs of other tests."""
    log_malformed.cache_clear()
    yield
    log_malformed.cache_clear()


@pytest.mark.parametrize(
    "body",
    [
        SECRET,
        f'"{SECRET}"',
        f'{{"type": "{SECRET}"}}',
        f'{{"type": "failed", "job_id": "j1", "code": "x", "message": "{SECRET}", "at": 1e300}}',
    ],
)
def test_the_log_names_the_place_and_not_the_content(body: str, caplog: pytest.LogCaptureFixture) -> None:
    """Prompts are private."""
    with caplog.at_level(logging.WARNING):
        assert read_or_skip(JOB_EVENT, StoredMessage(7, "job.ev.j1.end", body.encode())) is None
    (record,) = caplog.records

    assert (record.getMessage(), record.__dict__["subject"], record.__dict__["seq"]) == (
        "message.malformed", "job.ev.j1.end", 7,
    )  # fmt: skip
    assert record.__dict__["reason"]
    assert SECRET not in record.__dict__["reason"]


def test_a_message_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A listing reads it again and again."""
    with caplog.at_level(logging.WARNING):
        for seq in (1, 1, 2):
            read_or_skip(JobSubmit, StoredMessage(seq, "job.submit.a100.batch.u1.j1", b"{"))

    assert len(caplog.records) == 2


def test_a_deletion_marker_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """`nats kv del` leaves an empty value."""
    with caplog.at_level(logging.WARNING):
        assert read_or_skip(JobSubmit, StoredMessage(1, "$KV.jobs.u1.j1", b"")) is None
        assert read_or_skip(JobSubmit, None) is None

    assert not caplog.records


def test_a_reader_that_replies_gets_the_reason() -> None:
    """The sender of a request can correct it."""
    with pytest.raises(BadMessage, match="The field job_id is not valid: string should match pattern"):
        read(RedriveRequest, b'{"job_id": ""}')


@pytest.mark.parametrize("at", [1e300, -1, 253_402_300_800])
def test_a_time_is_one_that_a_calendar_has(at: float) -> None:
    """A reader would fail to convert any other."""
    body = f'{{"type": "cancelled", "job_id": "j1", "at": {at}}}'

    assert read_or_skip(JOB_EVENT, StoredMessage(1, "job.ev.j1.end", body.encode())) is None
