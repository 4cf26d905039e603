"""A cancel flag that runs actions when it is set, to end native calls that nothing else can interrupt."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class CancelFlag(threading.Event):
    """A threading.Event. `set` also runs the actions that `on_set` has registered.

    It is never cleared: make a new one for each job.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._actions: list[Callable[[], object]] = []

    def set(self) -> None:
        """Set the flag, then run the registered actions in this thread. They must be quick and must not raise."""
        with self._lock:
            super().set()
            for action in self._actions:
                action()

    @contextmanager
    def on_set(self, action: Callable[[], object]) -> Iterator[None]:
        """Run `action` as soon as the flag is set, now or inside the block, but never after the block."""
        with self._lock:
            self._actions.append(action)
            if self.is_set():
                action()
        try:
            yield
        finally:
            # The lock waits for a `set` in progress. After the block, `is_set` shows if the action ran.
            with self._lock:
                self._actions.remove(action)
