"""Which requests somebody wants to stop: those that run, and those whose cancel overtook them."""

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
    """Used from one event loop; the checkpoints that it hands out may be called from any thread."""

    def __init__(self, early_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """`early_s` is how long a cancel waits for its request."""
        self._early: TTLCache[str, bool] = TTLCache(_EARLY_LIMIT, early_s, clock)
        self._running: defaultdict[str, set[threading.Event]] = defaultdict(set)

    def cancel(self, request_id: str) -> None:
        """Stop the request at its next checkpoint, or as soon as it comes."""
        for flag in self._running.get(request_id, ()):
            flag.set()
        self._early[request_id] = True

    @contextmanager
    def watch(self, request_id: str) -> Iterator[Callable[[], None]]:
        """Hand out a checkpoint that raises JobCancelled once the request is cancelled, or the block has ended."""
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
            flag.set()  # the block may have been left while a thread still works for it
            self._running[request_id].discard(flag)
            if not self._running[request_id]:
                del self._running[request_id]
