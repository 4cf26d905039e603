"""Subjects: valid tokens, and parsing as the inverse of building."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import subjects
from shared.errors import BadMessage
from shared.subjects import QueueAddress, SubmissionAddress

if TYPE_CHECKING:
    from collections.abc import Callable

tokens = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(tokens)
def test_a_token_passes_unchanged(text: str) -> None:
    """Letters, digits, dashes and underscores, one to sixty-four of them."""
    assert subjects.token(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a b", "*", ">", "a*", "a>", "x" * 65, "a\n", "ä", "٣", "a/b", "$JS", "a\0"],
    ids=repr,
)
def test_what_could_change_a_subjects_shape_is_no_token(text: str) -> None:
    """Dots, blanks, wildcards and the like would let one user's id reach into another's subjects."""
    with pytest.raises(BadMessage, match="1 to 64 letters"):
        subjects.token(text)


@given(tokens, tokens, tokens)
def test_a_submit_is_taken_apart_into_what_it_was_made_of(job_class: str, user: str, job_id: str) -> None:
    """Class, user and job id live in the subject alone."""
    address = subjects.parse_submission(subjects.submission(job_class, user, job_id))

    assert address == SubmissionAddress(subjects.POOL, job_class, user, job_id)


@given(tokens, tokens, tokens, tokens)
def test_a_queued_job_is_taken_apart_into_what_it_was_made_of(
    job_class: str, task: str, user: str, job_id: str
) -> None:
    """The address of a waiting job is readable without its message."""
    address = subjects.parse_queue_entry(subjects.queue_entry(job_class, task, user, job_id))

    assert address == QueueAddress(subjects.POOL, job_class, task, user, job_id)


@given(tokens)
def test_the_job_of_an_event_is_in_its_subject(job_id: str) -> None:
    """The stored event and its live copy name the same job."""
    stored, live = subjects.end(job_id), subjects.live_end(job_id)

    assert subjects.job_of_event(stored) == subjects.job_of_event(live) == job_id


@pytest.mark.parametrize(
    "subject",
    ["job.submit.a100.interactive.u1", "job.submit.a100.interactive.u1.j1.x", "job.q.a100.interactive.u1.j1", "",
     "job.submit.a100.interactive.u1.", "job.submit.a100.interactive.u:1.j1"],
)  # fmt: skip
def test_a_submit_elsewhere_is_refused(subject: str) -> None:
    """A subject of another shape or with an invalid token is not a submission."""
    with pytest.raises(BadMessage):
        subjects.parse_submission(subject)


@pytest.mark.parametrize(
    "build",
    [
        lambda text: subjects.submission("batch", text, "j1"),
        lambda text: subjects.submission("batch", "u1", text),
        subjects.submissions_of,
        lambda text: subjects.queue_entry("batch", "removal", text, "j1"),
        subjects.queue_entries_of,
        lambda text: subjects.event(text, "started"),
        subjects.events_of,
        subjects.end,
        subjects.live_end,
        lambda text: subjects.dead_letter("bad_input", text),
        lambda text: subjects.dead_letter(text, "j1"),
        lambda text: subjects.job_record(text, "j1"),
        subjects.job_records_of,
        subjects.job_record_anywhere,
        subjects.seg_cancel,
        subjects.health,
    ],
)
def test_no_subject_is_built_from_a_wildcard(build: Callable[[str], str]) -> None:
    """An id that comes from outside can never widen a read, a purge or a subscription."""
    with pytest.raises(BadMessage):
        build(">")
