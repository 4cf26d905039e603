"""PatchMatch in a process that can be killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.a100worker.backends.patchmatch import child as child_module
from services.a100worker.backends.patchmatch.filler import Filler
from services.a100worker.cancel_flag import CancelFlag
from shared.errors import EngineFailed, JobCancelled
from tests.unit.services.a100worker.recorder import box_mask, noise
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psutil

    from shared.image_codec import Grey, Rgb

    Children = Callable[[], list[psutil.Process]]

LONG = 2400  # the side of a noisy picture that takes minutes to fill


@pytest.fixture
def filler() -> Iterator[Filler]:
    """Return a filler that is closed after the test."""
    with closing(Filler()) as opened:
        yield opened


def small() -> tuple[Rgb, Grey, Grey]:
    """Return a picture, its hole, and nothing to avoid."""
    return noise(60, 80), box_mask(60, 80, (30, 20, 50, 40)), np.zeros((60, 80), np.uint8)


def long() -> tuple[Rgb, Grey, Grey]:
    """Return a fill that takes far longer than a test may."""
    return noise(LONG, LONG), box_mask(LONG, LONG, (600, 600, 1800, 1800)), np.zeros((LONG, LONG), np.uint8)


def is_computing(children: list[psutil.Process]) -> bool:
    """Return whether one of the processes is a child of the filler that is computing."""
    return any("patchmatch/child" in " ".join(c.cmdline()) and c.cpu_times().user > 1 for c in children)


def test_a_hole_is_filled_and_the_rest_is_left(filler: Filler) -> None:
    """With pixels of the picture."""
    picture, hole, avoid = small()

    result = filler.fill(picture, hole, avoid, 1, CancelFlag())

    assert np.array_equal(result[hole == 0], picture[hole == 0])
    assert not np.array_equal(result[hole > 0], picture[hole > 0])


def test_the_seed_decides_the_pixels(filler: Filler) -> None:
    """The same seed the same, another seed others; the largest seed of a job is one too."""
    results = [filler.fill(*small(), seed, CancelFlag()) for seed in (5, 5, 6, 2**63 - 1)]

    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_nothing_is_copied_from_what_is_to_be_avoided(filler: Filler) -> None:
    """Left is red, right is blue and taboo: the hole between them turns red."""
    picture = np.zeros((60, 90, 3), np.uint8)
    picture[:, :45] = (200, 10, 10)
    picture[:, 45:] = (10, 10, 200)

    blue = box_mask(60, 90, (55, 0, 90, 60), (45, 0, 55, 20), (45, 40, 55, 60))

    result = filler.fill(picture, box_mask(60, 90, (35, 20, 55, 40)), blue, 1, CancelFlag())

    assert np.all(result[20:40, 35:55, 0] > result[20:40, 35:55, 2])


async def test_a_cancel_ends_a_fill_that_nothing_can_interrupt(filler: Filler, new_children: Children) -> None:
    """It comes while the child computes; the next fill gets a new child."""
    flag = CancelFlag()
    filling = asyncio.create_task(asyncio.to_thread(filler.fill, *long(), 1, flag), name="filling")
    await wait_until(lambda: is_computing(new_children()), "the child computes", 30)

    flag.set()

    with pytest.raises(JobCancelled):
        await asyncio.wait_for(filling, 10)
    assert not new_children()
    assert filler.fill(*small(), 1, CancelFlag()).shape == (60, 80, 3)


async def test_a_child_that_dies_by_itself_fails_the_job(filler: Filler, new_children: Children) -> None:
    """Which may be tried again."""
    filling = asyncio.create_task(asyncio.to_thread(filler.fill, *long(), 1, CancelFlag()), name="filling")
    await wait_until(lambda: is_computing(new_children()), "the child computes", 30)

    new_children()[0].kill()

    with pytest.raises(EngineFailed):
        await asyncio.wait_for(filling, 10)


def test_a_child_that_died_while_idle_is_replaced(filler: Filler, new_children: Children) -> None:
    """The next fill works."""
    first = filler.fill(*small(), 1, CancelFlag())
    child = new_children()[0]
    child.kill()
    child.wait(10)

    second = filler.fill(*small(), 1, CancelFlag())

    assert np.array_equal(first, second)


def test_a_flag_that_is_set_already_cancels(filler: Filler) -> None:
    """Nothing is filled."""
    flag = CancelFlag()
    flag.set()

    with pytest.raises(JobCancelled):
        filler.fill(*small(), 1, flag)


def test_closing_leaves_no_child(new_children: Children) -> None:
    """Neither running nor as a zombie; closing twice does no harm."""
    filler = Filler()
    filler.fill(*small(), 1, CancelFlag())

    filler.close()
    filler.close()

    assert not new_children()


def test_a_child_ends_in_the_middle_of_a_fill_when_its_owner_is_gone() -> None:
    """A killed worker leaves no child process behind."""
    with subprocess.Popen(
        [sys.executable, "-P", child_module.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        parts = (array.tobytes() for array in long())

        child.communicate(child_module.HEADER.pack(LONG, LONG, 1) + b"".join(parts), timeout=20)

    assert child.returncode == 0


def test_a_child_that_cannot_fill_ends_with_an_error(tmp_path: Path) -> None:
    """Its owner then sees the stream close, where it would otherwise wait for ever."""
    (tmp_path / "patchmatch.py").write_text("raise RuntimeError('broken')")
    with subprocess.Popen(
        [sys.executable, "-P", child_module.__file__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    ) as child:  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(child_module.HEADER.pack(8, 8, 1) + bytes(8 * 8 * 5))
        child.stdin.flush()

        assert child.wait(20) == 1
