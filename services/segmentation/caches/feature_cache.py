"""Cache network outputs and cuts per image, in this process and for all replicas in the object store.

A network takes tenths of a second to seconds per image, a cut a third of a second. Another prompt finds both in
milliseconds.
"""

from __future__ import annotations

import asyncio
import io
import logging
import math
import threading
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from services.segmentation.caches.array_cache import ArrayCache
from shared import metrics
from shared.errors import ArtMancerError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from numpy.typing import NDArray

    from services.segmentation.backend import CachedFeatures, SeenFeatures
    from shared.image_store import NamedStore

T = TypeVar("T")
log = logging.getLogger(__name__)
_BUCKET: Final = "cache"
_STORE_TIMEOUT_S = 2.0  # the network can compute the output again
_LARGEST_BYTES = 64 * 1024**2  # largest stored array; the largest of our engines has 9 MB
_FAST, _STORED = 1, 0  # zlib levels: masks and maps are mostly zeros; compression does not make other numbers smaller


class FeatureCache:
    """Keeps arrays by image and name. Create it in the event loop; engines call it from their threads."""

    def __init__(self, store: NamedStore, cache_bytes: int) -> None:
        self._store = store
        self._local = ArrayCache(cache_bytes)
        self._loop = asyncio.get_running_loop()
        self._locks: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
        self._guard = threading.Lock()

    def for_image(self, image_id: str) -> CachedFeatures:
        """Return the cache of one image. Equal ids mean equal pixels."""
        return partial(self._get, image_id)

    def reader_of(self, image_id: str) -> SeenFeatures:
        """Return the look-up in the cache of one image. It computes nothing and does not wait for other requests."""
        return partial(self._look_up, image_id)

    def _look_up(self, image_id: str, name: str) -> NDArray[Any] | None:
        key = f"{image_id}/{name}"
        array = self._local.get(key)
        if array is None and (array := self._fetch(key)) is not None:
            self._local.put(key, array)
        return array

    def _get(self, image_id: str, name: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        key = f"{image_id}/{name}"
        array = self._local.get(key)
        if array is not None:
            metrics.count_lookup("seen", hit=True)
            return array
        with self._guard:
            lock = self._locks.setdefault(key, _Lock())
        with lock.lock:  # of two requests for a new image, one computes and the other waits
            array = self._local.get(key)
            metrics.count_lookup("seen", hit=array is not None)
            if array is None:
                array = self._fetch_or_compute(key, compute)
                array.setflags(write=False)
                self._local.put(key, array)
        return array

    def _fetch_or_compute(self, key: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        array = self._fetch(key)
        metrics.count_lookup("seen-by-anyone", hit=array is not None)
        if array is None:
            array = compute()
            self._call_store(self._store.put_named(_BUCKET, key, pack(array)), key)
        return array

    def _fetch(self, key: str) -> NDArray[Any] | None:
        data = self._call_store(self._store.get_named(_BUCKET, key), key)
        return None if data is None else unpack(data)

    def _call_store(self, call: Coroutine[Any, Any, T], key: str) -> T | None:
        """Run a store call from an engine's thread; log a failure and return None."""

        async def with_timeout() -> T:
            async with asyncio.timeout(_STORE_TIMEOUT_S):
                return await call

        try:
            return asyncio.run_coroutine_threadsafe(with_timeout(), self._loop).result()
        except (ArtMancerError, TimeoutError) as error:
            log.warning("features.not-shared", extra={"key": key, "reason": str(error) or type(error).__name__})
            return None


class _Lock:
    """A lock with a weak reference, so that unused ones leave the dictionary."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def pack(array: NDArray[Any]) -> bytes:
    """Compress an array of any shape, of a plain or structured type."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return zlib.compress(file.getvalue(), _STORED if array.dtype.kind == "f" else _FAST)


def unpack(data: bytes) -> NDArray[Any] | None:
    """Return the array; None if the bytes are damaged or too many, or if their number differs from the header's."""
    inflate = zlib.decompressobj()
    try:
        file = io.BytesIO(inflate.decompress(data, _LARGEST_BYTES))
        shape, columns_first, kind = _read_header(file)
        values = file.read()
        stated_bytes = math.prod(shape) * kind.itemsize
        if inflate.unconsumed_tail or columns_first or kind.hasobject or stated_bytes != len(values):
            return None
        return np.frombuffer(values, kind).reshape(shape)
    except (ValueError, TypeError, zlib.error):
        return None


def _read_header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("another version of the format")
    shape, columns_first, kind = np.lib.format.read_array_header_1_0(file)
    return shape, columns_first, kind
