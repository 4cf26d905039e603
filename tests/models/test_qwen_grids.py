"""The painted picture and the shown ones have one token grid, whatever the photo's size.

Qwen's positions count tokens from the centre of a picture: another grid would be a zoom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared.messages import Task
from tests.models.grid_reader import open_reader
from tests.unit.services.a100worker.recorder import box_mask, frozen, job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.a100worker.settings import Settings
    from tests.models.grid_reader import GridReader

SIZES = 2000
REFERENCE = frozen(np.zeros((48, 32, 3), np.uint8))


@pytest.fixture(scope="module")
def reader(qwen_settings: Settings) -> Iterator[GridReader]:
    """Open one for all tests: a reading leaves nothing behind, and to load the engine takes as long as 200 readings."""
    with open_reader(qwen_settings, work_px=128) as opened:
        yield opened


@pytest.mark.parametrize("adapters", [False, True], ids=["stock", "adapter"])
@pytest.mark.parametrize("task", list(Task))
def test_two_thousand_sizes_have_one_grid(reader: GridReader, task: Task, *, adapters: bool) -> None:
    """Half of them with each kind of recipe, as the library's pipeline hands them to the transformer."""
    random = np.random.default_rng([adapters, *task.encode()])
    grids = set()
    sizes = (16 * 2 ** random.uniform(0, 5.3, (SIZES // 2, 2))).astype(int)  # 16 to 630 px
    for width, height in sizes.tolist():
        left, top = int(random.integers(width - 11)), int(random.integers(height - 11))
        right, bottom = int(random.integers(left + 11, width + 1)), int(random.integers(top + 11, height + 1))
        mask = box_mask(height, width, (left, top, right - (right - left == width), bottom))
        photo = np.zeros((height, width, 3), np.uint8)

        first, *others = reader.read(job(task, photo, mask, REFERENCE, guidance=1.0), adapters=adapters)

        assert others == [first] * reader.shown(task), (width, height)
        grids.add(first)
    assert len(grids) > 20  # the sizes were different ones for the model too
