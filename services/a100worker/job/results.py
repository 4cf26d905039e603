"""Stores the images of an edit, and counts changes outside the edited region."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from shared import subjects
from shared.image_codec import encode_png
from shared.image_store import digest
from shared.jobs import parse_event
from shared.marks import REMOVED, is_result_needed, mark_result, unmark_result
from shared.messages import Done, ImageRef
from shared.topology import JOB_EV, OWNED

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.deep_pixels import Deep
    from shared.image_codec import Grey, Rgb, Rgba
    from shared.image_store import Bucket, ImageRemover, ImageStore
    from shared.messages import JobWork


@dataclass(frozen=True, slots=True)
class File:
    """A PNG, and its width and height in pixels."""

    png: bytes
    width: int
    height: int


async def store_image(images: ImageStore, bucket: Bucket, image: Rgb) -> ImageRef:
    """Encode the image as PNG and store it. Raises Busy, BrokerUnavailable."""
    height, width = image.shape[:2]
    file = File(await asyncio.to_thread(encode_png, image), width, height)
    return await images.put(bucket, file.png, await _reference(bucket, file))


async def _reference(bucket: Bucket, file: File) -> ImageRef:
    return ImageRef(
        bucket=bucket,
        sha256=await digest(file.png),
        content_type="image/png",
        width=file.width,
        height=file.height,
        size_bytes=len(file.png),
    )


async def store_result(bus: Bus, images: ImageStore, work: JobWork, file: File) -> ImageRef:
    """Store the result of a job, or its patch, as its owner's. Raises Busy, BrokerUnavailable."""
    ref = await _reference("results", file)
    await mark_result(bus, work.user, work.job_id, ref)
    return await images.put("results", file.png, ref)


async def drop_late_results(bus: Bus, images: ImageRemover, work: JobWork) -> None:
    """Delete results that the end of their job does not name: it was cancelled, or another attempt ended it first.

    Raises BrokerUnavailable.
    """
    stored = await bus.last(JOB_EV, subjects.end(work.job_id))
    end = None if stored is None else parse_event(stored)
    named = (end.result, end.patch) if isinstance(end, Done) else ()
    wanted = {ref.sha256 for ref in named if ref is not None}
    for mark in await bus.history(OWNED, subjects.result_marks_of_job(work.user, work.job_id)):
        sha256 = mark.subject.rpartition(".")[2]
        if end is not None and sha256 not in wanted:
            if mark.data != REMOVED:  # a deletion of the job may have removed the mark before the bytes were stored
                await unmark_result(bus, work.user, work.job_id, sha256)
            await images.remove("results", sha256, partial(is_result_needed, bus, sha256))


def count_outside_changes(before: Rgb | Rgba | Deep, after: Rgb | Rgba | Deep, region: Grey | None) -> int:
    """Count the pixels outside the region that differ from the upload, in colour or opacity.

    If the region is None, the whole image is edited, and the count is 0.
    """
    if region is None:
        return 0
    rows = np.flatnonzero(region.any(axis=1))
    top, bottom = (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0)
    bands = slice(0, top), slice(top, bottom), slice(bottom, None)
    return sum(_count_outside(before[band], after[band], region[band]) for band in bands)


def _count_outside(before: Rgb | Rgba | Deep, after: Rgb | Rgba | Deep, region: Grey) -> int:
    if _is_equal(before, after):
        return 0
    changed = np.any(before != after, axis=2)
    return int(np.count_nonzero(changed & (region == 0)))


def _is_equal(before: Rgb | Rgba | Deep, after: Rgb | Rgba | Deep) -> bool:
    """Compare eight bytes at a time: 3 ms for 12 megapixels, where a comparison by pixels takes 130 ms."""
    if not (before.flags.c_contiguous and after.flags.c_contiguous):
        return False
    first, second = before.reshape(-1), after.reshape(-1)
    whole = first.size // 8 * 8
    return np.array_equal(first[:whole].view(np.uint64), second[:whole].view(np.uint64)) and np.array_equal(
        first[whole:], second[whole:]
    )
