"""The classical engine, beyond the contract."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.a100worker.backends.classical.engine import Classical
from shared.errors import EngineFailed
from tests.unit.services.a100worker.recorder import SETUP, Recorder, balance, box_mask, noise, photo, removal

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil


def test_a_white_balance_is_the_image_utilities_result() -> None:
    """The whole picture may change."""
    image = noise(30, 40)
    with closing(Classical(*SETUP)) as engine:
        edit = engine.balance(balance(image), Recorder())

    assert np.array_equal(edit.image, 255 - image)
    assert edit.region is None
    assert edit.source_type is None


def test_a_balanced_picture_of_another_size_is_refused() -> None:
    """The client lays it over the upload."""
    work = balance(noise(30, 40), fetch_balanced=lambda: noise(40, 30))

    with closing(Classical(*SETUP)) as engine, pytest.raises(EngineFailed):
        engine.balance(work, Recorder())


def test_closing_ends_the_child_process(new_children: Callable[[], list[psutil.Process]]) -> None:
    """A removal has started one."""
    engine = Classical(*SETUP)
    engine.remove(removal(photo("cat"), box_mask(300, 451, (50, 50, 90, 90))), Recorder())
    assert new_children()

    engine.close()

    assert not new_children()
