"""Cancel running requests, and requests that arrive after their cancel message."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cachetools import TTLCache

from shared.errors import JobCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_EARLY_LIMIT = 1024


class Cancellations:
    """Call it from one event loop. The checkpoints it returns may be called from any thread."""

    def __init__(self, early_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep a cancel for `early_s` seconds if its request has not arrived."""
        self._early: TTLCache[str, bool] = TTLCache(_EARLY_LIMIT, early_s, clock)
        self._running: defaultdict[str, set[threading.Event]] = defaultdict(set)

    def cancel(self, request_id: str) -> None:
        """Stop the request at its next checkpoint, or when it arrives."""
        for flag in self._running.get(request_id, ()):
            flag.set()
        self._early[request_id] = True

    @contextmanager
    def watch(self, request_id: str) -> Iterator[Callable[[], None]]:
        """Yield a checkpoint that raises JobCancelled after a cancel or after the end of the block."""
        flag = threading.Event()
        if self._early.pop(request_id, False):
            flag.set()
        self._running[request_id].add(flag)

        def checkpoint() -> None:
            if flag.is_set():
                raise JobCancelled

        try:
            yield checkpoint
        finally:
            flag.set()  # stops a thread that is still running for this request
            self._running[request_id].discard(flag)
            if not self._running[request_id]:
                del self._running[request_id]
