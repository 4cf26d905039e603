"""The pool of decoding children: its limits, and files that crash a child."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import struct
import tracemalloc
from typing import TYPE_CHECKING

import psutil
import pytest
from PIL import Image

from services.gateway.decoding.child_process import ChildDiedError, ChildProcess
from services.gateway.decoding.decoders import LARGE_BYTES, QUICK_BYTES, Decoders
from services.gateway.decoding.work import NeedsMemoryError, estimate_bytes, run
from shared.errors import BadImage, TooLarge
from shared.image_source import open_source
from tests.gateway import mask_png, png, saved
from tests.waiting import frozen, gone, wait_until

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.timeout(180)  # decoding 64 megapixels takes a busy machine long


@pytest.fixture(scope="module")
def largest_mask() -> bytes:
    """Return a mask of 64 megapixels that marks nothing, in four channels: 260 kB of PNG."""
    return saved(Image.new("RGBA", (8000, 8000), (0, 0, 0, 255)))


def pieces(file_format: str, mode: str, size: tuple[int, int], **options: object) -> bytes:
    return saved(Image.new(mode, size), file_format, **options)


def tiff_with_a_warning() -> bytes:
    """Return a TIFF of one pixel whose tag ResolutionUnit has two values instead of one."""
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 1}
    entries = [struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items()]
    entries.append(struct.pack("<HHIHH", 296, 3, 2, 2, 2))
    return b"II*\0" + struct.pack("<I", 10) + b"\x7f\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


async def test_a_file_is_described(decoders: Decoders) -> None:
    """The description has the upright size and the content."""
    assert await decoders.describe(png(size=(30, 20))) == {
        "width": 30, "height": 20, "content_type": "image/png", "notes": []
    }  # fmt: skip


async def test_a_mask_is_described_and_judged(decoders: Decoders) -> None:
    """In one look at the file."""
    marked = await decoders.describe_mask(mask_png((40, 30), (1, 1, 9, 9)))
    unmarked = await decoders.describe_mask(mask_png((40, 30), box=None))

    assert marked == {"width": 40, "height": 30, "content_type": "image/png", "notes": [], "empty": False}
    assert unmarked["empty"]


async def test_one_child_serves_many_files(decoders: Decoders) -> None:
    """It is reused, because a start takes longer than a look at a file."""
    used = set()
    for width in range(1, 9):
        await decoders.describe(png(size=(width, 1)))
        used.update(decoders.pids)

    assert len(used) == 1


async def test_no_child_starts_before_the_first_file(decoders: Decoders) -> None:
    """The start of the gateway does not wait for one."""
    assert decoders.pids == []


async def test_the_children_end_with_the_pool() -> None:
    """None is left behind."""
    async with Decoders(quick_children=2) as decoders:
        await asyncio.gather(decoders.describe(png()), decoders.describe(png()))
        pids = decoders.pids

    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


async def test_children_end_when_their_gateway_is_gone(tmp_path: Path) -> None:
    """A gateway that is killed cannot end them; the end of the socket does."""
    with (tmp_path / "warnings").open("wb") as warnings:
        child = await ChildProcess.start(QUICK_BYTES, warnings.fileno())
        await child.ask("describe", png())
        child.disconnect()

        await child.wait()
    assert gone(child.pid)


async def test_a_large_file_goes_to_the_larger_child(decoders: Decoders) -> None:
    """The quick child has seen in the header that it has not the memory for it."""
    found = await decoders.describe_mask(pieces("PNG", "RGBA", (3000, 2500)))

    assert found["empty"]
    assert len(decoders.pids) == 2


async def test_the_largest_masks_at_once_take_the_memory_of_one(decoders: Decoders, largest_mask: bytes) -> None:
    """They wait for each other; afterwards the memory is given back."""
    await decoders.describe(png())
    looks = [asyncio.create_task(decoders.describe_mask(largest_mask), name=f"look-{n}") for n in range(2)]
    peak = 0

    def has_ended() -> bool:
        nonlocal peak
        peak = max(peak, resident_of(decoders))
        return all(look.done() for look in looks)

    await wait_until(has_ended, "both masks are judged")

    assert [(await look)["empty"] for look in looks] == [True, True]
    assert peak < 350_000_000
    assert resident_of(decoders) < 100_000_000


def resident_of(decoders: Decoders) -> int:
    """Return the memory of all children, in bytes."""
    return sum(psutil.Process(pid).memory_info().rss for pid in decoders.pids)


async def test_no_pixels_are_in_the_memory_of_the_gateway(decoders: Decoders, largest_mask: bytes) -> None:
    """It sends the file and receives a verdict."""
    await decoders.describe(png())
    tracemalloc.start()
    try:
        await decoders.describe_mask(largest_mask)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1_000_000


async def test_a_small_file_does_not_wait_for_a_large_one(decoders: Decoders, largest_mask: bytes) -> None:
    """They have children of their own; here the larger one stands still."""
    await decoders.describe(png())
    quick = set(decoders.pids)
    large = asyncio.create_task(decoders.describe_mask(largest_mask), name="large")
    await wait_until(lambda: len(decoders.pids) == 2, "the large mask has reached its child")
    (larger,) = set(decoders.pids) - quick
    async with frozen(larger):
        await decoders.describe(png(size=(31, 7)))
        waited = not large.done()
    await large

    assert waited


async def test_a_file_that_needs_more_than_the_largest_is_refused(decoders: Decoders) -> None:
    """With a sentence, before it is decoded."""
    with pytest.raises(TooLarge) as refused:
        await decoders.convert_to_png(pieces("JPEG", "RGB", (6000, 4000)))

    assert refused.value.message == (
        "Decoding this image takes 288 MB of memory and 272 MB are allowed; save it as PNG, or make it smaller."
    )


async def test_a_child_that_dies_at_a_file_is_replaced(decoders: Decoders, largest_mask: bytes) -> None:
    """Its file is refused with a sentence, and the next one is taken."""
    await decoders.describe(png())
    fatal = asyncio.create_task(decoders.describe_mask(largest_mask), name="fatal")
    await wait_until(lambda: len(decoders.pids) == 2, "the mask has reached its child")
    killed = decoders.pids
    for pid in killed:
        os.kill(pid, signal.SIGKILL)

    with pytest.raises(BadImage) as refused:
        await fatal
    assert refused.value.message == (
        "Decoding this image takes too much time or memory; save it as PNG and send it again."
    )
    await wait_until(lambda: all(map(gone, killed)), "the killed children have ended")
    assert (await decoders.describe(png(size=(7, 5))))["width"] == 7


async def test_a_client_that_leaves_frees_its_child_at_once(decoders: Decoders, largest_mask: bytes) -> None:
    """The child does not finish the file."""
    await decoders.describe(png())
    quick = set(decoders.pids)
    left = asyncio.create_task(decoders.describe_mask(largest_mask), name="left")
    await wait_until(lambda: len(decoders.pids) == 2, "the mask has reached its child")
    (large,) = set(decoders.pids) - quick
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)

    await wait_until(lambda: gone(large), "its child has ended")
    assert (await decoders.describe_mask(pieces("PNG", "RGBA", (3000, 2500))))["empty"]


async def test_a_child_that_takes_too_much_memory_is_killed(tmp_path: Path, largest_mask: bytes) -> None:
    """Whatever the header promised: the gateway watches it."""
    with (tmp_path / "warnings").open("wb") as warnings:
        child = await ChildProcess.start(LARGE_BYTES, warnings.fileno(), own_bytes=-LARGE_BYTES // 2)
        with pytest.raises(ChildDiedError):
            await child.ask("mask", largest_mask)
        child.kill()
        await child.wait()


async def test_a_child_has_little_cpu_time_for_a_file(tmp_path: Path) -> None:
    """The kernel ends it. The limit counts from the file on, not from the start."""
    with (tmp_path / "warnings").open("wb") as warnings:
        child = await ChildProcess.start(QUICK_BYTES, warnings.fileno())
        await child.ask("describe", png())
        soft, _ = psutil.Process(child.pid).rlimit(psutil.RLIMIT_CPU)
        used_s = sum(psutil.Process(child.pid).cpu_times()[:2])
        child.kill()
        await child.wait()

    assert used_s < soft <= used_s + 12


async def test_warnings_of_decoders_become_log_lines(decoders: Decoders, caplog: pytest.LogCaptureFixture) -> None:
    """So that a log of JSON holds JSON only."""
    caplog.set_level(logging.INFO)
    await decoders.describe(tiff_with_a_warning())

    await wait_until(lambda: any(line.message == "decoder.warned" for line in caplog.records), "the warning is logged")


@pytest.mark.parametrize(
    ("work", "data", "expected_bytes"),
    [
        ("describe", pieces("PNG", "RGBA", (1000, 1000)), 0),
        ("describe", pieces("JPEG", "RGB", (1000, 1000)), 0),
        ("describe", pieces("JPEG", "RGB", (1000, 1000), progressive=True), 3_000_000),
        ("describe", pieces("JPEG", "RGB", (1000, 1000), progressive=True, subsampling=0), 6_000_000),
        ("describe", pieces("GIF", "L", (1000, 1000)), 1_000_000),
        ("describe", pieces("TIFF", "RGB", (1000, 1000)), 8_000_000),
        ("mask", pieces("PNG", "RGBA", (1000, 1000)), 4_000_000),
        ("mask", pieces("PNG", "L", (1000, 1000)), 1_000_000),
        ("mask", pieces("JPEG", "RGB", (1000, 1000)), 4_000_000),
        ("mask", pieces("WEBP", "RGB", (1000, 1000)), 20_000_000),
        ("convert", pieces("JPEG", "L", (1000, 1000)), 3_000_000),
        ("describe", pieces("JPEG", "RGB", (1000, 1000))[:-2], 4_000_000),
    ],
)
def test_the_memory_of_a_file_is_known_from_its_header(work: str, data: bytes, expected_bytes: int) -> None:
    """An upper limit for the decoder and the pixels; a child that may take less passes the file on."""
    with open_source(data) as source:
        estimated_bytes = estimate_bytes(work, source, data)

    assert estimated_bytes == expected_bytes
    assert run(work, data, expected_bytes)
    if expected_bytes:
        with pytest.raises(NeedsMemoryError):
            run(work, data, expected_bytes - 1)
