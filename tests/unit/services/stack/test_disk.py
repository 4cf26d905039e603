"""The sizes of the broker's store follow the free disk space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.stack.disk import OTHER_STREAMS_BYTES, SETTING, fit_store, size_for
from shared.settings import StreamSettings
from shared.topology import build_topology

if TYPE_CHECKING:
    from pathlib import Path

GB = 10**9


@pytest.mark.parametrize("free_gb", [1, 5, 10, 20, 500])
def test_every_stream_fits(free_gb: int) -> None:
    """The broker reserves the limits of all streams at their declaration."""
    size = size_for(free_gb * GB)
    streams = build_topology(StreamSettings(picture_bytes=size.images)).streams

    assert sum(stream.max_bytes or 0 for stream in streams) <= size.whole
    assert free_gb < 5 or size.whole <= 0.75 * free_gb * GB + 1


def test_a_large_disk_gets_the_default() -> None:
    """And no more."""
    assert size_for(500 * GB).images == StreamSettings().picture_bytes
    assert OTHER_STREAMS_BYTES < size_for(10 * GB).images < StreamSettings().picture_bytes


def test_what_is_stored_already_counts_as_free(tmp_path: Path) -> None:
    """Or each start would make the store smaller."""
    (tmp_path / "nats").mkdir()
    before = fit_store(tmp_path / "nats", {})
    (tmp_path / "nats" / "block").write_bytes(bytes(1000))
    after = fit_store(tmp_path / "nats", {})

    assert before is not None
    assert after is not None
    assert after.images >= 64 * 1024**2
    assert str(after).startswith("images may take ")


def test_a_folder_that_is_not_there_yet_is_measured_too(tmp_path: Path) -> None:
    """At a first start."""
    assert fit_store(tmp_path / "a" / "b" / "nats", {}) is not None


def test_a_size_of_the_users_own_stands(tmp_path: Path) -> None:
    """Nothing is reserved beside it."""
    assert fit_store(tmp_path, {SETTING: str(64 * 1024**2)}) is None
