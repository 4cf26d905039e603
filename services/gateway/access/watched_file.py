"""A small file that is read again when it changes, so that a new secret needs no restart."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
_CHECK_EVERY_S = 1.0
_REFRESH_EVERY_S = 0.2
log = logging.getLogger(__name__)


class WatchedFile(Generic[T]):
    """The parsed content of a file. An unreadable file ends the start; later the last good content stays in force."""

    def __init__(self, file: Path, read: Callable[[Path], T], clock: Callable[[], float] = time.time) -> None:
        """`read` raises ConfigError with a sentence that names the setting and the file."""
        self._file = file
        self._read = read
        self._clock = clock
        self._checked_at = clock()
        self._checks = 0
        self._stamp = self._current_stamp()
        self._content = read(file)
        self._reported = ""

    @property
    def content(self) -> T:
        """The file's content, at most a second old. Costs a `stat` each second."""
        # The age is negative after the clock was set back.
        if not 0 <= self._clock() - self._checked_at < _CHECK_EVERY_S:
            self._check()
        return self._content

    async def refresh(self) -> None:
        """Check the file for a change now, before something is refused on the ground of old content.

        All calls together check five times a second at most; a call that comes sooner waits for the next check.
        """
        checks = self._checks
        wait_s = _REFRESH_EVERY_S - (self._clock() - self._checked_at)
        await asyncio.sleep(min(max(wait_s, 0.0), _REFRESH_EVERY_S))
        if self._checks == checks:
            self._check()

    def _check(self) -> None:
        self._checked_at = self._clock()
        self._checks += 1
        stamp = self._current_stamp()
        if stamp == self._stamp:
            self._reported = ""
            return
        try:
            self._content = self._read(self._file)
        except ConfigError as error:
            # The stamp stays, so each check reads again: the cause may be outside the file. The log has it once.
            if error.message != self._reported:
                log.error("access.file-refused", extra={"reason": error.message})  # noqa: TRY400 (no traceback)
            self._reported = error.message
        else:
            self._stamp, self._reported = stamp, ""
            log.info("access.file-read", extra={"file": self._file.name})

    def _current_stamp(self) -> tuple[int, ...]:
        """Return values that change with the content. Kubernetes swaps a mounted secret's link: another inode."""
        try:
            found = self._file.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino
