"""The bounded memory of arrays."""

from __future__ import annotations

import numpy as np
import pytest

from services.segmentation.caches.array_cache import ArrayCache


def kilobyte(value: int = 0) -> np.ndarray:
    """Return an array of 1000 bytes."""
    return np.full(1000, value, np.uint8)


def test_what_was_not_used_for_longest_goes_first() -> None:
    """A look counts as use."""
    cache = ArrayCache(3000)
    for name in "abc":
        cache.put(name, kilobyte())
    cache.get("a")

    cache.put("d", kilobyte())

    assert [name for name in "abcd" if cache.get(name) is not None] == ["a", "c", "d"]


def test_the_bytes_never_exceed_the_limit() -> None:
    """Two of three fit."""
    cache = ArrayCache(2500)

    for name in "abc":
        cache.put(name, kilobyte())

    assert [name for name in "abc" if cache.get(name) is not None] == ["b", "c"]


def test_a_key_that_is_written_again_throws_nothing_out() -> None:
    """The replaced array no longer counts."""
    cache = ArrayCache(2500)
    cache.put("a", kilobyte())

    for value in range(10):
        cache.put("b", kilobyte(value))

    assert [name for name in "ab" if cache.get(name) is not None] == ["a", "b"]


def test_an_array_over_the_limit_is_not_kept() -> None:
    """It would throw out everything else for nothing."""
    cache = ArrayCache(1500)
    cache.put("small", kilobyte())

    cache.put("large", np.zeros(2000, np.uint8))

    assert cache.get("large") is None
    assert cache.get("small") is not None


def test_what_is_kept_cannot_be_written_to() -> None:
    """Two requests share one array."""
    cache = ArrayCache(1500)
    cache.put("a", kilobyte())
    kept = cache.get("a")
    assert kept is not None

    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1
