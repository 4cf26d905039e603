"""The fair queue: fair between owners, in order for each of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.jobmanager.fair_queue import FairQueue

JOBS = st.lists(st.tuples(st.sampled_from("abcd"), st.floats(1, 50)), max_size=60)


def _fill(jobs: list[tuple[str, float]], quantum: float = 10.0) -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue(quantum)
    for number, (owner, cost) in enumerate(jobs):
        queue.add(owner, f"{owner}{number}", cost, f"{owner}{number}")
    return queue


def _drain(queue: FairQueue[str]) -> list[str]:
    order = []
    while (item := queue.pop()) is not None:
        order.append(item)
    return order


@given(JOBS)
def test_every_job_leaves_once_and_in_the_order_of_its_owner(jobs: list[tuple[str, float]]) -> None:
    """No job is lost, duplicated or overtaken by a later job of the same owner."""
    queue = _fill(jobs)

    order = _drain(queue)

    assert sorted(order) == sorted(f"{owner}{number}" for number, (owner, _) in enumerate(jobs))
    for owner in "abcd":
        numbers = [int(item[1:]) for item in order if item[0] == owner]
        assert numbers == sorted(numbers)
    assert len(queue) == 0


@given(JOBS)
def test_the_next_job_is_known_before_it_is_taken(jobs: list[tuple[str, float]]) -> None:
    """Reading the id of the next job does not change the order."""
    queue, other = _fill(jobs), _fill(jobs)

    for expected in _drain(other):
        assert queue.next_id() == queue.next_id() == expected
        assert queue.pop() == expected
    assert queue.next_id() is None


def test_a_flood_delays_the_first_job_of_another_owner_by_one_turn() -> None:
    """Ten thousand jobs of one owner do not delay the others."""
    queue = _fill([("a", 10.0)] * 10_000)

    queue.add("b", "b0", 10.0, "b0")

    assert "b0" in [queue.pop() for _ in range(3)]


def test_work_is_shared_by_cost_not_by_count() -> None:
    """An owner with jobs of ten times the cost gets a tenth of the number through."""
    queue = _fill([("a", 10.0)] * 100 + [("b", 1.0)] * 100)

    first = [queue.pop() for _ in range(44)]

    cheap = sum(1 for item in first if item is not None and item[0] == "b")
    assert 36 <= cheap <= 42


@given(JOBS, st.data())
def test_a_removed_job_is_not_returned(jobs: list[tuple[str, float]], data: st.DataObject) -> None:
    """A cancelled job leaves the queue once, from any position."""
    queue = _fill(jobs)
    names = [f"{owner}{number}" for number, (owner, _) in enumerate(jobs)]
    gone = data.draw(st.sets(st.sampled_from(names)) if names else st.just(set[str]()))

    removed = {queue.remove(name) for name in gone}
    again = {queue.remove(name) for name in gone}

    assert removed == gone
    assert again <= {None}
    assert sorted(_drain(queue)) == sorted(set(names) - gone)


def test_the_same_job_waits_once() -> None:
    """A job that the log delivers again keeps its place and is not duplicated."""
    queue = _fill([("a", 1.0), ("a", 1.0)])

    queue.add("a", "a0", 1.0, "again")

    assert _drain(queue) == ["a0", "a1"]


def test_a_new_job_waits_for_the_jobs_of_its_owner_and_one_round_of_the_others() -> None:
    """The announced place is the number of jobs that start first."""
    queue = _fill([("a", 1.0)] * 5 + [("b", 1.0)])

    assert queue.ahead_of_new("c") == 2
    assert queue.ahead_of_new("b") == 3
    assert queue.ahead_of_new("a") == 6


def test_the_shown_order_is_one_job_of_each_owner_per_round() -> None:
    """The limit cuts the order off."""
    queue = _fill([("a", 1.0), ("a", 1.0), ("b", 1.0)])

    assert queue.in_turn(10) == ["a0", "b2", "a1"]
    assert queue.in_turn(1) == ["a0"]
