"""A size that ran out of memory once starts with the fallback that worked."""

from __future__ import annotations

from services.a100worker.backends.qwen.memory.known_sizes import KnownSizes
from services.a100worker.backends.qwen.memory.oom_fallback import Fallback


def test_a_size_starts_with_the_fallback_that_worked() -> None:
    """Those after it are still there; another size starts without one."""
    known = KnownSizes()
    assert known.fallbacks((1024, 1024)) == list(Fallback)

    known.record((1024, 1024), Fallback.SMALLER)

    assert known.fallbacks((1024, 1024)) == [Fallback.SMALLER, Fallback.OFFLOAD]
    assert known.fallbacks((512, 512)) == list(Fallback)


def test_a_size_that_needed_no_fallback_is_not_noted() -> None:
    """Nor does it take the place of one that did."""
    known = KnownSizes()
    known.record("large", Fallback.TILES)
    for number in range(1000):
        known.record(number, Fallback.NONE)

    assert known.fallbacks("large")[0] is Fallback.TILES


def test_the_memory_is_bounded() -> None:
    """The sizes noted longest ago are forgotten."""
    known = KnownSizes()
    for number in range(1000):
        known.record(number, Fallback.TILES)

    assert known.fallbacks(0)[0] is Fallback.NONE
    assert known.fallbacks(999)[0] is Fallback.TILES
