"""The output of the command line: a progress bar and lines for people, JSON lines for scripts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from .batch import Outcome
    from .models import Event


def print_json(facts: dict[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


class JsonReporter:
    """Prints one JSON object for each photo."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def begin(self, count: int) -> None:
        """Print nothing: the outcomes follow."""

    def step(self, photo: Path, event: Event) -> None:
        """Print nothing: scripts read the outcome."""

    def end(self, outcome: Outcome) -> None:
        """Print the outcome."""
        status = "failed" if outcome.error else "skipped" if outcome.skipped else "done"
        target = str(outcome.target) if outcome.target else None
        print_json({"photo": str(outcome.photo), "status": status, "output": target, "error": outcome.error})


class TerminalReporter:
    """Shows a progress bar on stderr, if it is a terminal, and a line for each photo on stdout."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("photos")
        self._done = 0
        self._running: dict[Path, float] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, count: int) -> None:
        """Show the number of photos."""
        self._bar.update(self._task, total=count)

    def step(self, photo: Path, event: Event) -> None:
        """Move the bar by the part of a photo that is done."""
        self._running[photo] = event.progress
        self._bar.update(self._task, completed=self._done + sum(self._running.values()))

    def end(self, outcome: Outcome) -> None:
        """Print a line, and move the bar by one photo."""
        self._running.pop(outcome.photo, None)
        self._done += 1
        self._bar.update(self._task, completed=self._done)
        skipped = " is there already; --overwrite writes it again" if outcome.skipped else ""
        text = outcome.error or f"{outcome.target}{skipped}"
        self._out.print(f"{outcome.photo}: {text}", markup=False)
