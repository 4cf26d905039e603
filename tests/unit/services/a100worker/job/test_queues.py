"""The order in which a worker looks for its next job: classes, then its adapter, then whoever has waited too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.a100worker.job.queues import ALL_LINES, Line, Lines
from shared.messages import JobClass, Task

REMOVAL, INSERTION, BALANCE = ((JobClass.INTERACTIVE, task) for task in Task)
BATCH = JobClass.BATCH, Task.REMOVAL
PATIENCE_S = 20.0


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        """Tell them."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> Lines:
    return Lines(PATIENCE_S, clock)


def test_nobody_looks_where_nothing_can_be(lines: Lines) -> None:
    """Only at lines that were told of, and not again after a look."""
    lines.note(REMOVAL, BATCH)
    lines.look(REMOVAL)

    assert lines.in_order() == [BATCH]


def test_the_loaded_task_goes_first_in_its_class(lines: Lines, clock: Clock) -> None:
    """A batch job waits for all others, whatever is loaded."""
    lines.note(BATCH, INSERTION)
    clock.now = 1.0
    lines.look(REMOVAL)
    lines.took(REMOVAL)

    assert lines.in_order() == [REMOVAL, INSERTION, BATCH]


def test_who_has_waited_too_long_goes_before_the_loaded_task(lines: Lines, clock: Clock) -> None:
    """From the bound on, and the longest wait first."""
    lines.took(REMOVAL)
    lines.note(BALANCE)
    clock.now = 1.0
    lines.note(INSERTION)
    clock.now = PATIENCE_S - 0.1
    lines.look(REMOVAL)
    lines.took(REMOVAL)
    in_time = lines.in_order()
    clock.now = PATIENCE_S + 1.0
    too_late = lines.in_order()

    assert in_time[0] == REMOVAL
    assert too_late == [BALANCE, INSERTION, REMOVAL]


def test_being_told_again_does_not_begin_the_wait_anew(lines: Lines, clock: Clock) -> None:
    """A line that gets a new job every second waits all the same."""
    lines.took(REMOVAL)
    for second in range(int(PATIENCE_S) + 1):
        clock.now = float(second)
        lines.look(REMOVAL)
        lines.took(REMOVAL)
        lines.note(INSERTION)

    assert lines.in_order()[0] == INSERTION


@given(st.lists(st.sampled_from([line for line in ALL_LINES if line[0] is JobClass.INTERACTIVE]), min_size=1))
def test_no_line_waits_longer_than_the_bound(told: list[Line]) -> None:
    """All lines are always full and a job takes a second: each is served within the bound and one job a line."""
    clock = Clock()
    lines = Lines(PATIENCE_S, clock)
    full = [line for line in ALL_LINES if line[0] is JobClass.INTERACTIVE]
    served = dict.fromkeys(full, 0.0)
    lines.note(*told, *full)
    for _ in range(200):
        line = lines.in_order()[0]
        lines.look(line)
        lines.took(line)
        served[line] = clock.now
        clock.now += 1.0
        lines.note(*full)

        assert clock.now - min(served.values()) <= PATIENCE_S + len(full)
