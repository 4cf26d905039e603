"""Stores the images of an edit, and counts changes outside the edited region."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from shared.image_codec import encode_png
from shared.image_store import digest
from shared.messages import ImageRef

if TYPE_CHECKING:
    from services.a100worker.backend import Edit
    from shared.image_codec import Rgb
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


def count_outside_changes(before: Rgb, edit: Edit) -> int:
    """Count the pixels outside the edit's region that differ from the upload. An edit of the whole image has none."""
    if edit.region is None:
        return 0
    changed = np.any(before != edit.image, axis=2)
    return int(np.count_nonzero(changed & (edit.region == 0)))
