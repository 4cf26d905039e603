"""Samples of the resources of a process, and a check that they do not grow."""

from __future__ import annotations

import contextlib
import json
from dataclasses import astuple, dataclass
from statistics import median_low
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import psutil

WARM_UP = 0.25  # of the time: caches fill, and retention starts to remove as much as arrives
_WINDOW = 0.15
_SLACK_MB = 3.0
_SLACK = 0.05
_FEW = 5  # tasks, threads and open files vary with the running jobs


@dataclass(frozen=True, slots=True)
class Sample:
    """The resources of a process at one moment. Counts that only the process can make are 0 without its help."""

    at_s: float
    rss_mb: float
    files: int
    threads: int
    tasks: int = 0
    objects: int = 0


def take(process: psutil.Process, at_s: float, counted: Path) -> Sample:
    """Sample a process. Raises psutil.NoSuchProcess."""
    own = {}
    with contextlib.suppress(OSError, ValueError):
        own = json.loads((counted / str(process.pid)).read_text())
    with process.oneshot():
        return Sample(
            at_s, process.memory_info().rss / 1e6, process.num_fds(), process.num_threads(),
            own.get("tasks", 0), own.get("objects", 0),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """The medians of a process after its warm-up and at the end."""

    name: str
    after: Sample
    end: Sample
    limit_mb: float | None = None
    """Up to which the process takes memory as it likes: a runtime that collects its garbage only near a limit."""

    @property
    def problems(self) -> list[str]:
        """Return the resources that have grown."""
        grown = []
        level_mb = max(self.limit_mb or 0.0, self.after.rss_mb * (1 + _SLACK) + _SLACK_MB)
        if self.end.rss_mb > level_mb:
            grown.append(f"memory {self.after.rss_mb:.0f} to {self.end.rss_mb:.0f} MB")
        for what in ("files", "threads", "tasks"):
            before, now = getattr(self.after, what), getattr(self.end, what)
            if now > before + _FEW:
                grown.append(f"{what} {before} to {now}")
        return grown

    def row(self) -> str:
        """Return a line of the table."""
        after, end = self.after, self.end
        change = 100 * (end.rss_mb / after.rss_mb - 1)
        return (
            f"{self.name:<14}{after.rss_mb:>8.1f} MB{end.rss_mb:>8.1f} MB{change:>+8.1f} %"
            f"{after.files:>7} {end.files:<5}{after.threads:>5} {end.threads:<5}{after.tasks:>5} {end.tasks:<5}"
            f"{after.objects:>9} {end.objects:<9}{'; '.join(self.problems) or self._word}"
        )

    @property
    def _word(self) -> str:
        return "flat" if self.limit_mb is None else f"below its limit of {self.limit_mb:.0f} MB"


HEAD = (
    f"{'process':<14}{'after':>11}{'end':>11}{'change':>10}{'files':>12} {'threads':>11} {'tasks':>9} {'objects':>17}"
)


def judge(name: str, samples: list[Sample], limit_mb: float | None = None) -> Verdict:
    """Compare the time after the warm-up with the end."""
    length = samples[-1].at_s
    after = [each for each in samples if WARM_UP * length <= each.at_s < (WARM_UP + _WINDOW) * length]
    end = [each for each in samples if each.at_s >= (1 - _WINDOW) * length]
    return Verdict(name, _middle(after), _middle(end), limit_mb)


def _middle(samples: list[Sample]) -> Sample:
    return Sample(*(median_low(values) for values in zip(*map(astuple, samples), strict=True)))
