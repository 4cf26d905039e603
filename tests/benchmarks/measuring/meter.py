"""The measuring tools of the benchmarks, and the table that they fill. Nothing here can make a test fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import psutil

_ROW = "{:<50}{:>12}{:>13}{:>12}{:>9}  {}"


class Table:
    """Writes one line a figure: name, figure, target, baseline, ratio of figure to baseline, and whether it is over."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        write(_ROW.format("name", "figure", "target", "baseline", "ratio", "").rstrip())

    def row(
        self,
        name: str,
        figure: float,
        unit: str,
        *,
        target: float | None = None,
        baseline: float | None = None,
        more_is_better: bool = False,
    ) -> None:
        """Write a line. Figure, target and baseline are in the same unit; the target is a limit, or a minimum."""
        sign = ">=" if more_is_better else "<="
        missed = target is not None and (figure < target if more_is_better else figure > target)
        line = _ROW.format(
            name,
            _show(figure, unit),
            "-" if target is None else f"{sign} {_show(target, unit)}",
            "-" if baseline is None else _show(baseline, unit),
            f"{figure / baseline:.2f}" if baseline else "-",
            "missed" if missed else "",
        )
        self._write(line.rstrip())


class Cpu:
    """The processor time of some processes, user and system, while a block runs; the kernel counts in 10 ms."""

    ms = 0.0

    def __init__(self, *processes: psutil.Process) -> None:
        self._processes = processes

    def __enter__(self) -> Self:
        self._before_s = self._spent_s()
        return self

    def __exit__(self, *_: object) -> None:
        self.ms = 1000 * (self._spent_s() - self._before_s)

    def _spent_s(self) -> float:
        times = [process.cpu_times() for process in self._processes]
        return sum(spent.user + spent.system for spent in times)


def resident_mb(processes: Iterable[psutil.Process]) -> float:
    """Return the resident memory of all of them, in 10^6 bytes; pages that they share count for each."""
    return sum(process.memory_info().rss for process in processes) / 1e6


def _show(value: float, unit: str) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()
