"""The time of edits on the CPU from file to file, and of their stages beside the same work without windows or bands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from statistics import median
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.a100worker.backend import Edit, RemovalInputs
from services.a100worker.backends.classical.engine import Classical
from services.a100worker.backends.classical.insertion import insert
from services.a100worker.backends.classical.removal import remove
from services.a100worker.imaging import holes
from services.a100worker.imaging.filling import fill_smoothly
from services.a100worker.job.results import count_outside_changes
from services.imageutils.white_balance import auto_table, balance_auto
from shared.colour_tables import apply_table, shrink
from shared.image_codec import decode_photo, encode_jpeg, encode_png
from tests.unit.services.a100worker.imaging.test_windowed_work import split_whole
from tests.unit.services.a100worker.imaging.whole_edits import (
    feather_whole,
    grow_whole,
    insert_whole,
    remove_whole,
)
from tests.unit.services.a100worker.recorder import SETUP, Recorder, box_mask, insertion, photo, removal

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.image_codec import Grey, Rgb
    from tests.benchmarks.measuring.meter import Table

pytestmark = pytest.mark.timeout(600)
ROUNDS = 5
SIZES = {1: (900, 1200), 12: (3000, 4000), 48: (6000, 8000)}  # megapixels: height, width
SPOT_TARGET_MS = {1: 450.0, 12: 330.0, 48: 850.0}
SPOT_PX = 100
LARGE_SHARE = 0.03
LARGE_TARGET_MS = {12: 1050.0, 48: 2900.0}
PEAK_TARGET_MB = 12.0
WHITE_BALANCE_TARGET_MS = {12: 230.0, 48: 800.0}


def enlarged_photo(size: tuple[int, int], name: str = "rocket") -> Rgb:
    """Return a sample photo at that height and width."""
    return np.asarray(cv2.resize(photo(name), size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def spot(size: tuple[int, int], side_px: int = SPOT_PX) -> Grey:
    """Return a mask with one square in the middle."""
    mask = np.zeros(size, np.uint8)
    top, left = ((side - side_px) // 2 for side in size)
    mask[top : top + side_px, left : left + side_px] = 255
    return mask


def remove_from_file(engine: Classical, jpeg: bytes, mask: Grey) -> bytes:
    """Decode a photo, remove the masked part, verify the rest and encode the result."""
    image = decode_photo(jpeg).rgb
    edit = engine.remove(RemovalInputs(image=image, mask=mask), Recorder(previews=False))
    assert count_outside_changes(image, edit.image, edit.region) == 0
    return encode_png(edit.image)


def median_ms(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median of some rounds, after one to warm up.

    The clock `time.process_time` counts the time of all threads of this process, which varies less on a busy machine.
    """
    work()
    times = []
    for _ in range(ROUNDS):
        began = clock()
        work()
        times.append(1000 * (clock() - began))
    return median(times)


@pytest.mark.parametrize("megapixels", SIZES)
def test_the_removal_of_a_spot(table: Table, megapixels: int) -> None:
    """Measure a removal from a JPEG to a PNG, without the broker and without saliency."""
    jpeg, mask = encode_jpeg(enlarged_photo(SIZES[megapixels]), 90), spot(SIZES[megapixels])
    with closing(Classical(*SETUP)) as engine:
        time_ms = median_ms(lambda: remove_from_file(engine, jpeg, mask))
    table.row(f"removal of {SPOT_PX} px, {megapixels} MP", time_ms, "ms", target=SPOT_TARGET_MS[megapixels])


@pytest.mark.parametrize("megapixels", LARGE_TARGET_MS)
def test_the_removal_of_a_large_square(table: Table, megapixels: int) -> None:
    """The same for three percent of the photo."""
    height, width = SIZES[megapixels]
    jpeg = encode_jpeg(enlarged_photo(SIZES[megapixels]), 90)
    mask = spot(SIZES[megapixels], round((LARGE_SHARE * height * width) ** 0.5))
    with closing(Classical(*SETUP)) as engine:
        time_ms = median_ms(lambda: remove_from_file(engine, jpeg, mask))
    table.row(f"removal of 3 %, {megapixels} MP", time_ms, "ms", target=LARGE_TARGET_MS[megapixels])


def test_the_memory_of_a_removal(table: Table) -> None:
    """The peak of a new process over its memory before the photo, for each megapixel of the largest size."""
    height, width = SIZES[48]
    command = [sys.executable, "-m", "tests.benchmarks.measuring.edit_peak", str(height), str(width)]
    spot_mb, large_mb = (
        float(subprocess.run([*command, str(side_px)], check=True, capture_output=True, text=True).stdout)
        for side_px in (SPOT_PX, round((LARGE_SHARE * height * width) ** 0.5))
    )
    table.row(f"removal of {SPOT_PX} px, peak for each MP of 48", spot_mb / 48, "MB", target=PEAK_TARGET_MB)
    table.row("removal of 3 %, peak for each MP of 48", large_mb / 48, "MB", target=PEAK_TARGET_MB)


@pytest.mark.parametrize("megapixels", [12, 48])
def test_the_edit_alone(table: Table, megapixels: int) -> None:
    """In windows, beside an edit on the whole image; a smooth fill takes PatchMatch's part."""
    image, mask = enlarged_photo(SIZES[megapixels]), spot(SIZES[megapixels])
    taken = removal(image, mask)
    inserted = insertion(image, mask, photo("cat"), reference_mask=box_mask(300, 451, (150, 80, 300, 250)))
    for name, in_windows, whole in (
        ("removal", lambda: remove(taken, Recorder(), None), lambda: remove_whole(taken, fill_smoothly)),
        ("insertion", lambda: insert(inserted, Recorder()), lambda: insert_whole(inserted)),
    ):
        table.row(
            f"{name} of {SPOT_PX} px alone, {megapixels} MP", median_ms(in_windows), "ms", baseline=median_ms(whole)
        )


@pytest.mark.parametrize("megapixels", [12, 48])
def test_a_result_as_png(table: Table, megapixels: int) -> None:
    """In bands on the cores that there are, beside the same on one core."""
    image, cores = enlarged_photo(SIZES[megapixels]), os.sched_getaffinity(0)
    on_all = median_ms(lambda: encode_png(image))
    os.sched_setaffinity(0, {min(cores)})
    try:
        on_one = median_ms(lambda: encode_png(image))
    finally:
        os.sched_setaffinity(0, cores)
    table.row(f"PNG of a result, {megapixels} MP, {len(cores)} cores", on_all, "ms", baseline=on_one)


@pytest.mark.parametrize("megapixels", WHITE_BALANCE_TARGET_MS)
def test_a_white_balance(table: Table, megapixels: int) -> None:
    """From a JPEG to a PNG, in one process and without the broker; the baseline balances it in another service."""
    jpeg = encode_jpeg(enlarged_photo(SIZES[megapixels]), 90)

    def by_table() -> bytes:
        image = decode_photo(jpeg).rgb
        small = decode_photo(encode_png(shrink(image))).rgb
        table_png = encode_png(auto_table(small)[None])
        return encode_png(apply_table(image, decode_photo(table_png).rgb[0]))

    def by_another_service() -> bytes:
        before = decode_photo(jpeg).rgb
        balanced = encode_png(balance_auto(decode_photo(jpeg).rgb))
        after = decode_photo(balanced).rgb
        assert after.shape == before.shape
        return encode_png(after)

    assert by_table() == by_another_service()
    table.row(
        f"white balance, {megapixels} MP",
        median_ms(by_table),
        "ms",
        target=WHITE_BALANCE_TARGET_MS[megapixels],
        baseline=median_ms(by_another_service),
    )


@pytest.mark.parametrize("megapixels", [12, 48])
def test_the_stages_in_windows(table: Table, megapixels: int) -> None:
    """Each beside the same work on the whole image."""
    image, mask = enlarged_photo(SIZES[megapixels]), spot(SIZES[megapixels])

    def in_windows() -> None:
        hole = holes.grow(mask)
        holes.split(hole, None)
        holes.feather(hole, mask)

    def on_the_whole_image() -> None:
        hole = grow_whole(np.where(mask > 128, np.uint8(255), np.uint8(0)))
        split_whole(hole)
        feather_whole(hole, mask)

    def verify_whole() -> int:
        return int(np.count_nonzero(np.any(image != edit.image, axis=2) & (mask == 0)))

    edit = Edit(image.copy(), mask)
    table.row(
        f"grow, split and feather, {megapixels} MP", median_ms(in_windows), "ms", baseline=median_ms(on_the_whole_image)
    )
    table.row(
        f"verification of the outside, {megapixels} MP",
        median_ms(lambda: count_outside_changes(image, edit.image, edit.region)),
        "ms",
        baseline=median_ms(verify_whole),
    )
