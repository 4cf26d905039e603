"""A bounded memory of arrays: the least recently used go first when the bytes are used up."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray


class ArrayCache:
    """Keeps arrays, made read-only, up to a number of bytes; larger ones are not kept. Threads may share it."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._arrays: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> NDArray[Any] | None:
        """Return the array and mark it as used, or None."""
        with self._lock:
            if key not in self._arrays:
                return None
            self._arrays.move_to_end(key)
            return self._arrays[key]

    def put(self, key: Hashable, pixels: NDArray[Any]) -> None:
        """Keep an array; whoever gets it later must not write to it, so its write flag is taken off."""
        if pixels.nbytes > self._limit:
            return
        pixels.setflags(write=False)
        with self._lock:
            replaced = self._arrays.pop(key, None)
            self._held += pixels.nbytes - (0 if replaced is None else replaced.nbytes)
            self._arrays[key] = pixels
            while self._held > self._limit:
                self._held -= self._arrays.popitem(last=False)[1].nbytes
