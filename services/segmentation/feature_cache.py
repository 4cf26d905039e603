"""What networks have seen in pictures, so that nobody looks twice: in this process, and for every replica in the store.

Networks take from tenths of a second to seconds for a picture; to answer another prompt from what they saw takes
milliseconds.
"""

from __future__ import annotations

import asyncio
import io
import logging
import threading
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from services.segmentation.array_cache import ArrayCache
from shared import metrics
from shared.errors import ArtMancerError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from numpy.typing import NDArray

    from services.segmentation.backend import CachedFeatures
    from shared.image_store import NamedStore

T = TypeVar("T")
log = logging.getLogger(__name__)
_BUCKET: Final = "cache"
_PATIENCE_S = 2.0  # to look again is an alternative
_FAST = 1  # zlib's level: what was seen is mostly zeros


class FeatureCache:
    """Remembers arrays by picture and name. Made in the event loop, asked from the threads of engines."""

    def __init__(self, store: NamedStore, cache_bytes: int) -> None:
        self._store = store
        self._here = ArrayCache(cache_bytes)
        self._loop = asyncio.get_running_loop()
        self._looking: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
        self._guard = threading.Lock()

    def for_image(self, image_id: str) -> CachedFeatures:
        """Return the memory of one picture; equal ids mean equal pixels."""
        return partial(self._recall, image_id)

    def _recall(self, image_id: str, name: str, look: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        key = f"{image_id}/{name}"
        known = self._here.get(key)
        if known is not None:
            metrics.count_lookup("seen", hit=True)
            return known
        with self._guard:
            lock = self._looking.setdefault(key, _Lock())
        with lock.held:  # two prompts on a new picture: one of them looks, the other waits for what it saw
            known = self._here.get(key)
            metrics.count_lookup("seen", hit=known is not None)
            if known is None:
                known = self._fetch(key)
                metrics.count_lookup("seen-by-anyone", hit=known is not None)
                if known is None:
                    known = look()
                    self._ask(self._store.put_named(_BUCKET, key, pack(known)), key)
                known.setflags(write=False)
                self._here.put(key, known)
        return known

    def _fetch(self, key: str) -> NDArray[Any] | None:
        data = self._ask(self._store.get_named(_BUCKET, key), key)
        return None if data is None else unpack(data)

    def _ask(self, question: Coroutine[Any, Any, T], key: str) -> T | None:
        """Wait in an engine's thread for the store; what it cannot do is done without it."""

        async def bounded() -> T:
            async with asyncio.timeout(_PATIENCE_S):
                return await question

        try:
            return asyncio.run_coroutine_threadsafe(bounded(), self._loop).result()
        except (ArtMancerError, TimeoutError) as error:
            log.warning("memory.not-shared", extra={"key": key, "reason": str(error) or type(error).__name__})
            return None


class _Lock:
    """A lock that lives as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self.held = threading.Lock()


def pack(seen: NDArray[Any]) -> bytes:
    """Return an array, of whatever shape and plain or structured type, as few bytes."""
    file = io.BytesIO()
    np.lib.format.write_array(file, seen, allow_pickle=False)
    return zlib.compress(file.getvalue(), _FAST)


def unpack(data: bytes) -> NDArray[Any] | None:
    """Return the array, or None if the bytes are not one."""
    try:
        array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(zlib.decompress(data)), allow_pickle=False)
    except (ValueError, zlib.error):
        return None
    return array
