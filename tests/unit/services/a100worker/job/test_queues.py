"""The order in which a worker polls the queues: by class, then overdue queues, then the active task."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.a100worker.job.queues import ALL_QUEUES, PollOrder, Queue
from shared.messages import JobClass, Task

REMOVAL, INSERTION, BALANCE = (
    (JobClass.INTERACTIVE, task) for task in (Task.REMOVAL, Task.INSERTION, Task.WHITE_BALANCE)
)
BATCH = JobClass.BATCH, Task.REMOVAL
MAX_WAIT_S = 20.0


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def order(clock: Clock) -> PollOrder:
    return PollOrder(MAX_WAIT_S, clock)


def test_only_marked_queues_are_polled(order: PollOrder) -> None:
    """A cleared queue is not polled again."""
    order.mark(REMOVAL, BATCH)
    order.clear(REMOVAL)

    assert order.list_queues() == [BATCH]


def test_the_active_task_goes_first_in_its_class(order: PollOrder, clock: Clock) -> None:
    """Batch jobs wait for all others."""
    order.mark(BATCH, INSERTION)
    clock.now = 1.0
    order.clear(REMOVAL)
    order.mark_taken(REMOVAL)

    assert order.list_queues() == [REMOVAL, INSERTION, BATCH]


def test_an_overdue_queue_goes_before_the_active_task(order: PollOrder, clock: Clock) -> None:
    """The longest wait first."""
    order.mark_taken(REMOVAL)
    order.mark(BALANCE)
    clock.now = 1.0
    order.mark(INSERTION)
    clock.now = MAX_WAIT_S - 0.1
    order.clear(REMOVAL)
    order.mark_taken(REMOVAL)
    in_time = order.list_queues()
    clock.now = MAX_WAIT_S + 1.0
    too_late = order.list_queues()

    assert in_time[0] == REMOVAL
    assert too_late == [BALANCE, INSERTION, REMOVAL]


def test_a_second_mark_keeps_the_time_of_the_first(order: PollOrder, clock: Clock) -> None:
    """A queue that gets a new job every second becomes overdue all the same."""
    order.mark_taken(REMOVAL)
    for second in range(int(MAX_WAIT_S) + 1):
        clock.now = float(second)
        order.clear(REMOVAL)
        order.mark_taken(REMOVAL)
        order.mark(INSERTION)

    assert order.list_queues()[0] == INSERTION


@given(st.lists(st.sampled_from([queue for queue in ALL_QUEUES if queue[0] is JobClass.INTERACTIVE]), min_size=1))
def test_no_queue_waits_longer_than_the_bound(marked: list[Queue]) -> None:
    """With all queues always full and jobs of one second, each is served within the bound and one job a queue."""
    clock = Clock()
    order = PollOrder(MAX_WAIT_S, clock)
    full = [queue for queue in ALL_QUEUES if queue[0] is JobClass.INTERACTIVE]
    served = dict.fromkeys(full, 0.0)
    order.mark(*marked, *full)
    for _ in range(200):
        queue = order.list_queues()[0]
        order.clear(queue)
        order.mark_taken(queue)
        served[queue] = clock.now
        clock.now += 1.0
        order.mark(*full)

        assert clock.now - min(served.values()) <= MAX_WAIT_S + len(full)
