"""The schedule of webhooks: due deliveries are sent, fairly between owners, and never twice at once."""

from __future__ import annotations

import pytest

from services.jobmanager.webhooks.schedule import FAILING, Schedule, Waiting
from shared.webhook_subjects import delivery, parse_delivery


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def waiting(owner: str, endpoint: str, job: str, seq: int = 1, due: float = 0.0) -> Waiting:
    subject = delivery(owner, endpoint, "end", job)
    return Waiting(subject, seq, parse_delivery(subject), 0, due)


def taken(schedule: Schedule) -> list[str]:
    """Take all that can start; return the ids of the jobs."""
    found = []
    while (each := schedule.take()) is not None:
        found.append(each.address.name)
    return found


def test_a_delivery_is_taken_when_it_is_due(clock: Clock) -> None:
    """The earlier one first."""
    schedule = Schedule(clock=clock)
    schedule.put(waiting("ann", "e1", "late", due=9.0))
    schedule.put(waiting("ann", "e1", "early", due=5.0))

    assert (taken(schedule), schedule.wait_s()) == ([], 5.0)
    clock.now = 9.0
    assert (taken(schedule), schedule.wait_s()) == (["early", "late"], None)


def test_the_newest_state_of_a_delivery_counts(clock: Clock) -> None:
    """Copies may arrive late or twice, and an attempt may have made it due later."""
    schedule = Schedule(clock=clock)
    schedule.put(waiting("ann", "e1", "j", seq=1))
    schedule.put(waiting("ann", "e1", "j", seq=3, due=5.0))
    schedule.put(waiting("ann", "e1", "j", seq=2))

    assert (taken(schedule), len(schedule)) == ([], 1)
    clock.now = 5.0
    assert taken(schedule) == ["j"]


def test_a_delivery_that_is_ready_can_be_replaced(clock: Clock) -> None:
    """The place of the old state does not count twice."""
    schedule = Schedule(at_once=1, clock=clock)
    schedule.put(waiting("ann", "e1", "first"))
    schedule.put(waiting("ann", "e1", "j", seq=2))
    running = schedule.take()
    assert running is not None
    schedule.put(waiting("ann", "e1", "j", seq=3, due=5.0))
    schedule.finish(running, has_failed=False)

    assert taken(schedule) == []
    clock.now = 5.0
    assert taken(schedule) == ["j"]


def test_a_delivery_is_not_sent_twice_at_once(clock: Clock) -> None:
    """One that is stored again during its call follows after it."""
    schedule = Schedule(clock=clock)
    schedule.put(waiting("ann", "e1", "j", seq=1))
    running = schedule.take()
    assert running is not None
    schedule.put(waiting("ann", "e1", "j", seq=1))
    schedule.put(waiting("ann", "e1", "j", seq=2))

    assert taken(schedule) == []
    schedule.finish(running, has_failed=False)
    assert (taken(schedule), len(schedule)) == (["j"], 0)


def test_an_endpoint_has_few_calls_at_once(clock: Clock) -> None:
    """Others do not wait for it."""
    schedule = Schedule(per_endpoint=2, clock=clock)
    for number in range(5):
        schedule.put(waiting("ann", "slow", f"s{number}", seq=number + 1))
    schedule.put(waiting("ann", "quick", "q"))
    first, second, third = (schedule.take() for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None

    assert sorted(each.address.name for each in (first, second, third)) == ["q", "s0", "s1"]
    for each in (first, second, third):
        schedule.finish(each, has_failed=each.address.endpoint == "slow")
    assert taken(schedule) == ["s2", "s3"]


def test_an_endpoint_that_keeps_failing_has_one_call_at_once(clock: Clock) -> None:
    """Until one succeeds."""
    schedule = Schedule(per_endpoint=2, clock=clock)
    for number in range(9):
        schedule.put(waiting("ann", "e1", f"j{number}", seq=number + 1))
    for _ in range(FAILING):
        failed = schedule.take()
        assert failed is not None
        schedule.finish(failed, has_failed=True)
    only = schedule.take()
    assert only is not None
    assert taken(schedule) == []

    schedule.finish(only, has_failed=False)
    assert len(taken(schedule)) == 2


def test_the_owner_with_the_fewest_calls_is_next(clock: Clock) -> None:
    """One owner with many endpoints does not take all places."""
    schedule = Schedule(at_once=4, clock=clock)
    for number in range(8):
        schedule.put(waiting("greedy", f"e{number}", f"g{number}"))
    first = [schedule.take() for _ in range(3)]
    schedule.put(waiting("modest", "e", "m"))

    assert taken(schedule) == ["m"]
    assert first[0] is not None
    schedule.finish(first[0], has_failed=False)
    assert taken(schedule) == ["g3"]


def test_an_owner_has_room_for_as_many_as_are_left_for_others(clock: Clock) -> None:
    """So that no owner can fill the stream alone, and there is always room for one more owner."""
    schedule = Schedule(room=100, clock=clock)
    owners = ("a", "b", "c")
    for owner in owners:
        number = 0
        while schedule.has_room(owner):
            schedule.put(waiting(owner, "e", f"j{number}"))
            number += 1

    assert (len(schedule), schedule.has_room("new")) == (88, True)
    assert not any(schedule.has_room(owner) for owner in owners)


def test_what_waited_for_a_deleted_endpoint_takes_no_room(clock: Clock) -> None:
    """It may not be due for hours, and the owner has made another endpoint by then."""
    schedule = Schedule(room=8, clock=clock)
    for number in range(3):
        schedule.put(waiting("ann", "gone", f"g{number}"))
        schedule.put(waiting("bob", "gone", f"b{number}", due=9.0))
    running = schedule.take()
    schedule.put(waiting("ann", "e", "j"))
    schedule.keep("ann", {"e"})

    assert running is not None
    assert (len(schedule), schedule.has_room("ann")) == (4, True)
    assert running.subject in schedule
    schedule.finish(running, has_failed=False)
    assert taken(schedule) == ["j"]


def test_a_schedule_can_be_read_anew(clock: Clock) -> None:
    """Calls that run stay, and their deliveries are not taken again."""
    schedule = Schedule(clock=clock)
    schedule.put(waiting("ann", "e1", "runs"))
    schedule.put(waiting("ann", "e1", "gone", due=1.0))
    running = schedule.take()
    assert running is not None
    schedule.clear()
    schedule.put(waiting("ann", "e1", "runs"))
    clock.now = 1.0

    assert (taken(schedule), len(schedule)) == ([], 0)
    schedule.finish(running, has_failed=False)
    schedule.put(waiting("ann", "e1", "new"))
    assert taken(schedule) == ["new"]
