"""A bucket of three tokens that gains two a second, by a clock that the test sets."""

from __future__ import annotations

import pytest

from services.gateway.access.token_bucket import TokenBucket

NOON = 1000.0


@pytest.fixture
def bucket() -> TokenBucket:
    """Make a full bucket."""
    return TokenBucket(rate_per_s=2, burst=3, now=NOON)


def test_a_full_bucket_gives_its_burst(bucket: TokenBucket) -> None:
    """Then it names the wait for the next token."""
    assert [bucket.take(NOON) for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_refusal_takes_nothing(bucket: TokenBucket) -> None:
    """The wait does not grow with each try."""
    waits = [bucket.take(NOON) for _ in range(50)]

    assert waits[-1] == 0.5
    assert bucket.take(NOON + 0.5) == 0


def test_to_look_takes_nothing(bucket: TokenBucket) -> None:
    """Only `take` does."""
    looks = [bucket.wait_s(NOON) for _ in range(5)]

    assert looks == [0] * 5
    assert [bucket.take(NOON) for _ in range(3)] == [0] * 3


def test_tokens_come_back_with_time_up_to_the_burst(bucket: TokenBucket) -> None:
    """A day of rest is worth no more than a second and a half."""
    for _ in range(3):
        bucket.take(NOON)
    later = NOON + 86_400

    assert [bucket.take(later) for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]
