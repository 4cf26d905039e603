"""The flag that runs actions when it is set."""

from __future__ import annotations

import threading

from services.a100worker.cancel_flag import CancelFlag


def test_setting_runs_the_action_of_a_call_in_progress() -> None:
    """Inside the block, `set` runs the action before it returns."""
    flag, calls = CancelFlag(), list[str]()

    with flag.on_set(lambda: calls.append("killed")):
        flag.set()
        assert calls == ["killed"]


def test_a_flag_that_is_set_already_acts_on_entry() -> None:
    """A cancel that came a moment too early is not lost."""
    flag, calls = CancelFlag(), list[str]()
    flag.set()

    with flag.on_set(lambda: calls.append("killed")):
        assert calls == ["killed"]


def test_after_the_block_nothing_is_called() -> None:
    """A late cancel must not end a call of the next job."""
    flag, calls = CancelFlag(), list[str]()
    with flag.on_set(lambda: calls.append("killed")):
        pass

    flag.set()

    assert calls == []


def test_it_wakes_a_waiting_thread() -> None:
    """As a threading.Event does."""
    flag = CancelFlag()
    waiter = threading.Thread(target=flag.wait)
    waiter.start()

    flag.set()

    waiter.join(10)
    assert not waiter.is_alive()
