"""Figures of the painter and the engine beyond whole edits: passes, windows, memory, equal bytes and cancels."""

from __future__ import annotations

import gc
import itertools
import statistics
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from services.a100worker.backend import RemovalInputs, edit
from services.a100worker.backends.qwen.painter import PaintRequest
from services.a100worker.cancel_flag import CancelFlag
from shared.errors import JobCancelled
from shared.messages import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.a100worker.backend import Preview, TaskInputs
    from services.a100worker.backends.qwen.engine import Qwen
    from shared.image_codec import Rgb

_JOBS = 10
_SAME = 20
_CANCEL_AFTER_S = 1.0
_GUIDED, _UNGUIDED = 4.0, 1.0
_PHOTO = (4000, 6000)  # 24 megapixels
_REGION = (slice(1500, 1900), slice(2600, 3200))  # 600 x 400 px


@dataclass(frozen=True)
class Figure:
    """One line of the table, all numbers in the unit; `baseline` is the bare library's in the same run."""

    name: str
    value: float
    unit: str
    target: float | None = None
    baseline: float | None = None


class Ticks:
    """Records the time of each step."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.cancel_flag = CancelFlag()
        self.at: list[float] = []
        self._clock = clock

    def __call__(self, done: int, total: int, message: str | None = None, preview: Preview | None = None) -> None:
        """See StepReporter."""
        del total, message, preview
        if done:
            self.at.append(self._clock())

    @property
    def each_s(self) -> float:
        """Median seconds a step, without the first, because its beginning is not reported."""
        return statistics.median(after - before for before, after in itertools.pairwise(self.at))


def noise_of(side: int, seed: int) -> Rgb:
    """Return a square picture."""
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)


def passes(
    engine: Qwen, clock: Callable[[], float], side: int, steps: int, counts: Sequence[int] = (1, 2, 3)
) -> Iterator[Figure]:
    """Time a step with each count of shown pictures, with guidance (two passes) and without."""
    for count, guidance in itertools.product(counts, (_UNGUIDED, _GUIDED)):
        pictures = [noise_of(side, number) for number in range(count)]
        request = PaintRequest(pictures, "a photo", " ", max(3, steps), guidance, 3, [])
        engine.painter.paint(replace(request, steps=2), Ticks(clock))  # the first warms up
        ticks = Ticks(clock)
        engine.painter.paint(request, ticks)
        goal = 0.62 if (count, guidance, side) == (1, _GUIDED, 1024) else None  # on an H200
        how = "with guidance" if guidance > 1 else "without guidance"
        yield Figure(f"{count} pictures {side} px {how}: a step", ticks.each_s, "s", target=goal)


def windows(engine: Qwen, clock: Callable[[], float], steps: int) -> Iterator[Figure]:
    """Time a removal of 600 x 400 px in a photo of 24 megapixels."""
    image, mask = np.full((*_PHOTO, 3), 127, np.uint8), np.zeros(_PHOTO, np.uint8)
    image[::2, ::2] = 180
    mask[_REGION] = 255
    job = RemovalInputs(image=image, mask=mask, steps=max(3, steps), seed=7)
    engine.remove(replace(job, steps=2), Ticks(clock))
    ticks, begin = Ticks(clock), clock()
    engine.remove(job, ticks)
    name = f"removal of 600 x 400 px in 24 megapixels by {engine.recipes[Task.REMOVAL].name}"
    yield Figure(f"{name}: a step", ticks.each_s, "s", target=0.75)
    yield Figure(f"{name}: whole edit of {job.steps} steps", clock() - begin, "s")


def growth(engine: Qwen, clock: Callable[[], float], jobs: list[TaskInputs]) -> Iterator[Figure]:
    """Run ten jobs of all tasks and compare the memory that stays allocated."""
    if not torch.cuda.is_available():
        return
    kept = []
    for number in range(_JOBS):
        edit(engine, jobs[number % len(jobs)], Ticks(clock))
        gc.collect()
        kept.append(torch.cuda.memory_allocated() / 1e6)
    yield Figure(f"memory after {_JOBS} jobs, more than after {len(jobs)}", kept[-1] - kept[len(jobs) - 1], "MB")


def same_bytes(engine: Qwen, clock: Callable[[], float], job: TaskInputs, rounds: int = _SAME) -> Figure:
    """Run one job several times and count the results that equal the first."""
    results = [edit(engine, job, Ticks(clock)).image.tobytes() for _ in range(rounds)]
    return Figure(f"equal bytes, of {rounds} runs", sum(one == results[0] for one in results), "", target=rounds)


def cancel_latency(engine: Qwen, job: TaskInputs, after_s: float = _CANCEL_AFTER_S) -> Figure:
    """Cancel a job of a hundred steps, and measure the time to the exception."""
    ticks, at = Ticks(time.perf_counter), [time.perf_counter()]

    def cancel() -> None:
        at.append(time.perf_counter())
        ticks.cancel_flag.set()

    timer = threading.Timer(after_s, cancel)
    timer.start()
    try:
        edit(engine, replace(job, steps=100), ticks)
    except JobCancelled:
        pass
    finally:
        timer.join()
    return Figure("a cancel inside a job", 1000 * (time.perf_counter() - at[-1]), "ms", target=100.0)
