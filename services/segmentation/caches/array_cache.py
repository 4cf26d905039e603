"""An LRU cache of arrays, limited in bytes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray


class ArrayCache:
    """Keeps read-only arrays up to a number of bytes in total. Threads may share it."""

    def __init__(self, limit_bytes: int) -> None:
        self._arrays: LRUCache[Hashable, NDArray[Any]] = LRUCache(limit_bytes, getsizeof=lambda pixels: pixels.nbytes)
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> NDArray[Any] | None:
        """Return the array and mark it as used, or return None."""
        with self._lock:
            return self._arrays.get(key)

    def clear(self) -> None:
        """Drop all arrays."""
        with self._lock:
            self._arrays.clear()

    def put(self, key: Hashable, pixels: NDArray[Any]) -> None:
        """Make the array read-only and keep it, unless it is larger than the whole cache."""
        if pixels.nbytes > self._arrays.maxsize:
            return
        pixels.setflags(write=False)
        with self._lock:
            self._arrays[key] = pixels
