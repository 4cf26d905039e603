"""A small file that is read again when it changes, so that a new secret needs no restart."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
_LOOK_EVERY_S = 1.0
log = logging.getLogger(__name__)


class WatchedFile(Generic[T]):
    """What is in a file. One that cannot be read ends the start; later the last good content stays in force."""

    def __init__(self, file: Path, read: Callable[[Path], T], clock: Callable[[], float] = time.time) -> None:
        """`read` raises ConfigError with a sentence that names the setting and the file."""
        self._file = file
        self._read = read
        self._clock = clock
        self._looked_at = clock()
        self._stamp = self._now()
        self._content = read(file)
        self._complaint = ""

    @property
    def content(self) -> T:
        """What the file says now, at most a second late; costs a look at the clock, and a `stat` each second."""
        now = self._clock()
        if not 0 <= now - self._looked_at < _LOOK_EVERY_S:  # a clock may also be set back
            self._looked_at = now
            self._look()
        return self._content

    def _look(self) -> None:
        stamp = self._now()
        if stamp == self._stamp:
            self._complaint = ""
            return
        try:
            self._content = self._read(self._file)
        except ConfigError as error:  # read again each second, as what is wrong may not be in the file; said once
            if error.message != self._complaint:
                log.error("access.file-refused", extra={"reason": error.message})  # noqa: TRY400 (it says all)
            self._complaint = error.message
        else:
            self._stamp, self._complaint = stamp, ""
            log.info("access.file-read", extra={"file": self._file.name})

    def _now(self) -> tuple[int, ...]:
        """Tell one content from the next; a mounted secret is swapped as a link, which gives it another inode."""
        try:
            found = self._file.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino
