"""The engine for load tests."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from services.a100worker.backends.scripted import Script, Scripted, parse_script
from shared.errors import JobCancelled
from tests.unit.services.a100worker.recorder import SETUP, Recorder, balance, box_mask, noise, removal

PAIR = noise(8, 8), box_mask(8, 8)


def test_the_prompt_is_the_script() -> None:
    """Milliseconds on the wire, seconds inside."""
    assert parse_script('{"steps": 30, "interval_ms": 250}', 15) == Script(30, 0.25)


@pytest.mark.parametrize("prompt", ["", "remove object", "7", "[]", '{"steps": "many"}', '{"steps": 1e999}', "null"])
def test_a_prompt_that_is_no_script_means_the_job_s_own_steps(prompt: str) -> None:
    """Without waiting."""
    assert parse_script(prompt, 15) == Script(15, 0.0)


def test_a_script_has_no_negative_steps_and_waits_no_negative_time() -> None:
    """For any numbers in the prompt."""
    assert parse_script('{"steps": -3, "interval_ms": -5}', 15) == Script(0, 0.0)


def test_each_step_carries_the_time_it_was_taken() -> None:
    """For measuring how long an event travels."""
    recorder, before = Recorder(), time.monotonic_ns()

    Scripted(*SETUP).remove(removal(*PAIR, prompt='{"steps": 3, "interval_ms": 1}'), recorder)

    times = [int(str(message).removeprefix("ts:")) for message in recorder.messages]
    assert [before, *times] == sorted([before, *times])
    assert recorder.steps == [(1, 3), (2, 3), (3, 3)]


def test_a_cancel_ends_the_wait_between_two_steps() -> None:
    """An hour is not waited for."""
    recorder = Recorder()
    work = removal(*PAIR, prompt='{"steps": 2, "interval_ms": 3600000}')

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(Scripted(*SETUP).remove, work, recorder)
        recorder.cancel_flag.set()

        with pytest.raises(JobCancelled):
            running.result(10)


def test_the_colour_depends_on_the_seed() -> None:
    """One colour per seed, in the mask and nowhere else."""
    image, mask = noise(20, 20), box_mask(20, 20, (5, 5, 10, 10))

    first, second = (Scripted(*SETUP).remove(removal(image, mask, seed=s), Recorder()) for s in (1, 2))

    assert np.ptp(first.image[mask > 0], axis=0).max() == 0
    assert not np.array_equal(first.image[7, 7], second.image[7, 7])
    assert np.array_equal(first.image[mask == 0], image[mask == 0])


def test_a_white_balance_leaves_the_picture_as_it_is() -> None:
    """A load test of white balance asks no other service."""
    image = noise(20, 20)

    edit = Scripted(*SETUP).balance(balance(image), Recorder())

    assert np.array_equal(edit.image, image)
    assert edit.region is None
