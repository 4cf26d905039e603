"""The queue limits."""

from __future__ import annotations

import pytest

from services.gateway.core.admission import Admission
from shared.errors import Busy
from shared.messages import Cancelled, JobClass, Progress, Queued, QueueReport, Started, Task


def queued_event(job_id: str, user: str) -> Queued:
    return Queued(job_id=job_id, user=user, task=Task.REMOVAL, job_class=JobClass.BATCH, log_seq=1, total_steps=1)


def started_event(job_id: str) -> Started:
    return Started(job_id=job_id, worker="w1", engine="e", attempt=1)


def place(admission: Admission, user: str, *job_ids: str) -> None:
    for job_id in job_ids:
        with admission.place(user, job_id):
            pass


def test_a_user_has_so_many_places() -> None:
    """The limit of another user is not affected."""
    admission = Admission(total=10, per_user=2)
    place(admission, "ann", "a1", "a2")

    with pytest.raises(Busy, match="You have 2 jobs waiting"):
        admission.check("ann")
    admission.check("bob")


def test_all_users_share_the_queue() -> None:
    """The total limit applies to all users."""
    admission = Admission(total=2, per_user=2)
    place(admission, "ann", "a1")
    place(admission, "bob", "b1")

    with pytest.raises(Busy, match="The queue is full"):
        admission.check("cyd")


def test_a_failed_submit_gives_its_place_back() -> None:
    """A failed submission does not count."""
    admission = Admission(total=1, per_user=1)
    with pytest.raises(KeyError), admission.place("ann", "a1"):
        raise KeyError

    admission.check("ann")


def test_a_job_that_starts_or_ends_waits_no_more() -> None:
    """Any worker's start counts."""
    admission = Admission(total=10, per_user=2)
    place(admission, "ann", "a1", "a2")
    admission.note(started_event("a1"))
    admission.note(Cancelled(job_id="a2"))
    place(admission, "ann", "a3", "a4")

    with pytest.raises(Busy):
        admission.check("ann")


def test_other_gateways_jobs_count() -> None:
    """Their `queued` events count. A job of this gateway is not counted twice; progress events do not count."""
    admission = Admission(total=10, per_user=2)
    place(admission, "ann", "a1")
    admission.note(queued_event("a1", "ann"))
    admission.check("ann")
    admission.note(queued_event("elsewhere", "ann"))
    admission.note(Progress(job_id="elsewhere", phase="loading", fraction=0.1))

    with pytest.raises(Busy):
        admission.check("ann")


async def test_a_recount_keeps_what_changes_meanwhile() -> None:
    """A job that starts during the query is not counted, although the report has it."""
    admission = Admission(total=10, per_user=2)
    place(admission, "ann", "gone", "starting")

    async def report() -> QueueReport:
        admission.note(started_event("starting"))
        place(admission, "ann", "new")
        return QueueReport(queued={"ann": ["starting"], "bob": ["b1", "b2"]})

    await admission.recount(report)

    place(admission, "ann", "second")
    for user in ("ann", "bob"):
        with pytest.raises(Busy):
            admission.check(user)
