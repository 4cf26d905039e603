"""A file that changes under a running gateway, read by a clock that the test sets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from services.gateway.access.watched_file import WatchedFile
from shared.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Desk:
    """A watched file that holds "first", the number of its reads, and the reason why it cannot be read."""

    file: Path
    now: float = 1_000.0
    reads: int = 0
    trouble: str = ""
    watched: WatchedFile[str] = field(init=False)

    def __post_init__(self) -> None:
        self.file.write_text("first")
        self.watched = WatchedFile(self.file, self.read, lambda: self.now)

    def read(self, file: Path) -> str:
        """Read the file as the gateway's readers do."""
        self.reads += 1
        if self.trouble:
            raise ConfigError(self.trouble)
        return file.read_text()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Make the file."""
    return Desk(tmp_path / "file")


def test_a_change_counts_within_a_second(desk: Desk) -> None:
    """Without anyone's refresh."""
    desk.file.write_text("second")
    desk.now += 0.9
    before = desk.watched.content
    desk.now += 0.1

    assert (before, desk.watched.content) == ("first", "second")


def test_a_clock_that_is_set_back_delays_nothing(desk: Desk) -> None:
    """Or the file would stay unread until the clock has caught up."""
    desk.file.write_text("second")
    desk.now -= 3600

    assert desk.watched.content == "second"


async def test_a_refresh_reads_a_change_at_once(desk: Desk) -> None:
    """The second between two checks has not passed."""
    desk.file.write_text("second")
    desk.now += 0.2
    await desk.watched.refresh()

    assert desk.watched.content == "second"


async def test_a_refresh_that_comes_too_soon_waits(desk: Desk) -> None:
    """It still ends with the new content."""
    desk.file.write_text("second")
    await desk.watched.refresh()

    assert desk.watched.content == "second"


async def test_a_thousand_refreshes_at_once_share_a_check(desk: Desk) -> None:
    """Each check of a broken file reads it, so the reads count the checks."""
    desk.file.write_text("second")
    desk.trouble = "No."
    desk.now += 0.2
    await asyncio.gather(*(desk.watched.refresh() for _ in range(1000)))

    assert desk.reads == 2


async def test_a_stream_of_refreshes_checks_five_times_a_second(tmp_path: Path) -> None:
    """Two that follow one another are a fifth of a second apart."""
    file = tmp_path / "file"
    file.write_text("first")
    time = asyncio.get_running_loop().time
    watched = WatchedFile(file, lambda _: "", time)
    began = time()
    for _ in range(3):
        await watched.refresh()

    assert time() - began >= 0.59


def test_a_file_that_can_be_read_again_counts(desk: Desk) -> None:
    """Though nothing in it has changed since: its rights were wrong, or the process had no descriptor to spare."""
    desk.file.write_text("second")
    desk.trouble = "Permission denied."
    desk.now += 1
    meanwhile = desk.watched.content
    desk.trouble = ""
    desk.now += 1

    assert (meanwhile, desk.watched.content) == ("first", "second")
