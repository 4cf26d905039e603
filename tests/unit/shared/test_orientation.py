"""The orientation tag counts as one SHORT in the first directory, and nothing in it raises an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.orientation import orientation_of
from tests.browser.odd_files import exif


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_the_tag_is_read(value: int, order: str) -> None:
    """In both byte orders."""
    assert orientation_of(exif(value, order=order)) == value


@pytest.mark.parametrize("kind", [1, 2, 4, 5, 7, 8])
def test_another_type_is_upright(kind: int) -> None:
    """Browsers take nothing but a SHORT."""
    assert orientation_of(exif(6, kind)) == 1


@pytest.mark.parametrize("block", [exif(0), exif(9), exif(count=0), exif(count=2), exif(ifd=1)])
def test_another_value_count_or_directory_is_upright(block: bytes) -> None:
    """Nothing is guessed."""
    assert orientation_of(block) == 1


@given(st.binary(max_size=40) | st.integers(0, 60).map(lambda kept: exif(6)[:kept]))
def test_a_broken_block_is_upright_or_read(block: bytes) -> None:
    """No bytes raise an error."""
    assert orientation_of(block) in range(1, 9)
