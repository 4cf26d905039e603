"""Runs a command on many photos: some at once. Writes each result when it is ready, and counts failures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from . import edits, photos
from .errors import ArtMancerError, WrongArguments

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from .async_client import AsyncClient
    from .models import Event


class Reporter(Protocol):
    """Shows the progress of a run."""

    def begin(self, count: int) -> None:
        """Begin a run of so many photos."""

    def step(self, photo: Path, event: Event) -> None:
        """Show an event of a photo's job."""

    def end(self, outcome: Outcome) -> None:
        """Show the outcome of one photo."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one photo: the file that was written, or the reason there is none."""

    photo: Path
    target: Path | None = None
    skipped: bool = False
    error: str | None = None


async def run(client: AsyncClient, options: Namespace, reporter: Reporter) -> list[Outcome]:
    """Run the command on all photos, `options.jobs` at once. Raises WrongArguments."""
    found = photos.find_photos(options.photos)
    if options.output and len(found) > 1:
        raise WrongArguments("--output names one file, and there are several photos; use --into with a folder.")
    options.job_class = "interactive" if len(found) == 1 else "batch"
    reporter.begin(len(found))
    slots = asyncio.Semaphore(options.jobs)

    async def handle(photo: Path) -> Outcome:
        async with slots:
            outcome = await _handle(client, photo, options, reporter)
        reporter.end(outcome)
        return outcome

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(handle(photo), name=f"edit-{photo.name}") for photo in found]
    return [task.result() for task in tasks]


async def _handle(client: AsyncClient, photo: Path, options: Namespace, reporter: Reporter) -> Outcome:
    target = photos.target_of(photo, options)
    if target.exists() and not options.overwrite:
        return Outcome(photo, target, skipped=True)
    try:
        result = await edits.run(client, photo, options, lambda event: reporter.step(photo, event))
        photos.write(target, result)
    except ArtMancerError as error:
        return Outcome(photo, error=str(error))
    except OSError as error:
        return Outcome(photo, error=f"{error.filename or target}: {error.strerror or error}.")
    return Outcome(photo, target)
