"""A cancel flag that not only answers when asked but acts at once, to end calls that nothing else can interrupt."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class CancelFlag(threading.Event):
    """An Event whose `set` also runs the actions of those who are inside `calling`.

    Once set it stays set: make a new one per job.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._actions: list[Callable[[], object]] = []

    def set(self) -> None:
        """Raise the flag, then run the waiting actions in this thread; they must be quick and must not raise."""
        with self._lock:
            super().set()
            for action in self._actions:
                action()

    @contextmanager
    def calling(self, action: Callable[[], object]) -> Iterator[None]:
        """Have `action` run as soon as the flag is set, now or inside the block; never after the block."""
        with self._lock:
            self._actions.append(action)
            if self.is_set():
                action()
        try:
            yield
        finally:
            # Waits for a `set` in progress, so that afterwards `is_set` tells whether the action ran.
            with self._lock:
                self._actions.remove(action)
