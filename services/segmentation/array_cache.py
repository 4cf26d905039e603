"""A bounded memory of arrays: the least recently used go first when the bytes are used up."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray


class ArrayCache:
    """Keeps arrays, made read-only, up to a number of bytes; larger ones are not kept. Threads may share it."""

    def __init__(self, limit_bytes: int) -> None:
        self._arrays: LRUCache[Hashable, NDArray[Any]] = LRUCache(limit_bytes, getsizeof=lambda pixels: pixels.nbytes)
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> NDArray[Any] | None:
        """Return the array and mark it as used, or None."""
        with self._lock:
            return self._arrays.get(key)

    def put(self, key: Hashable, pixels: NDArray[Any]) -> None:
        """Keep an array; whoever gets it later must not write to it, so its write flag is taken off."""
        if pixels.nbytes > self._arrays.maxsize:
            return
        pixels.setflags(write=False)
        with self._lock:
            self._arrays[key] = pixels
