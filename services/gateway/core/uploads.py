"""Decodes, checks and stores the images that clients upload. Stored images are named by their SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pybase64
from cachetools import FIFOCache, TTLCache

from shared.errors import BadImage, BadInput
from shared.image_codec import mask_is_empty, probe
from shared.messages import ImageRef

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.access.ownership import Ownership
    from shared.image_store import ImageStore

P = ParamSpec("P")
T = TypeVar("T")
_REMEMBERED_MASKS = 1024
_SEEN, _SEEN_S = 4096, 60.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOB = "is an address inside your browser, not an image; return to the original photo and try again."


@dataclass(frozen=True, slots=True)
class Upload:
    """A complete image within the limits, not stored yet."""

    data: bytes
    ref: ImageRef


class Uploads:
    """Reads uploads and stores them in the bucket `inputs`. `name` is the image's name in error texts."""

    def __init__(self, images: ImageStore, ownership: Ownership, reads_at_once: int) -> None:
        self._images = images
        self._ownership = ownership
        # A file of 50 kB can have 64 megapixels and take 256 MB of memory when a check decodes it.
        self._decoders = asyncio.Semaphore(reads_at_once)
        # By hash: whether the mask has no bright pixel.
        self._empty: FIFOCache[str, bool] = FIFOCache(_REMEMBERED_MASKS)
        self._seen: TTLCache[tuple[str, str], bool] = TTLCache(_SEEN, _SEEN_S)  # owner and hash

    async def read(self, text: str, name: str) -> Upload:
        """Decode and check base64, with or without a data: prefix. Raises BadInput, BadImage, TooLarge."""
        return await self.run_decoder(_decode, text, name)

    async def read_bytes(self, data: bytes, name: str) -> Upload:
        """Check the bytes of an image. Raises BadInput, BadImage, TooLarge."""
        return await self.run_decoder(_check, data, name)

    async def read_mask(self, text: str, name: str) -> Upload | None:
        """Read a mask in base64; return None for an empty mask. Raises as `read`."""
        upload = await self.read(text, name)
        return None if await self._is_empty_mask(upload.ref.sha256, upload.data) else upload

    async def find(self, owner: str, sha256: str) -> ImageRef | None:
        """Return the owner's image with this hash; None if the owner has none. Raises BrokerUnavailable."""
        if not _SHA256.fullmatch(sha256) or not await self._ownership.owns_image(owner, sha256):
            return None
        return await self._images.head("inputs", sha256)

    async def has(self, owner: str, sha256: str) -> bool:
        """Return whether the owner has the image, or had it within the last minute. Raises BrokerUnavailable."""
        if (owner, sha256) in self._seen:
            return True
        if await self.find(owner, sha256) is None:
            return False
        self._seen[owner, sha256] = True
        return True

    async def store(self, owner: str, upload: Upload) -> str:
        """Store the image unless the owner has it, and return its SHA-256. Raises Busy, BrokerUnavailable."""
        sha256 = upload.ref.sha256
        owned = await self._ownership.owns_image(owner, sha256)
        await self._images.put("inputs", upload.data, upload.ref, force=not owned)
        if not owned:
            await self._ownership.add_image(owner, sha256)
        return sha256

    async def adopt(self, owner: str, ref: ImageRef) -> Upload:
        """Copy a service's image to `inputs`, so that a job can use it. Raises ImageNotFound, and as `store`."""
        upload = Upload(await self._images.get(ref.bucket, ref.sha256), ref.model_copy(update={"bucket": "inputs"}))
        await self.store(owner, upload)
        return upload

    async def is_empty_mask(self, sha256: str) -> bool:
        """Return whether a stored mask has no bright pixel. Raises BadImage, ImageNotFound."""
        if sha256 in self._empty:
            return self._empty[sha256]
        return await self._is_empty_mask(sha256, await self._images.get("inputs", sha256))

    async def run_decoder(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that may decode an image, in a thread. A semaphore limits the memory in use."""
        async with self._decoders:
            return await asyncio.to_thread(work, *args, **kwargs)

    async def _is_empty_mask(self, sha256: str, data: bytes) -> bool:
        # Decoding takes 12 ms a megapixel, and users send the same mask again with another seed or prompt.
        if sha256 not in self._empty:
            self._empty[sha256] = await self.run_decoder(mask_is_empty, data)
        return self._empty[sha256]


def _decode(text: str, name: str) -> Upload:
    if text.startswith("blob:"):
        raise BadImage(f"{name}: this {_BLOB}")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = pybase64.b64decode(text, validate=True)
    except ValueError:
        raise BadImage(f"{name}: this is not valid base64.") from None
    if not data:
        raise BadInput(f"The request has no {name.lower()}; send it as base64.")
    return _check(data, name)


def _check(data: bytes, name: str) -> Upload:
    if not data:
        raise BadInput(f"The request has no {name.lower()}; send a file.")
    try:
        info = probe(data)
    except BadInput as error:
        raise type(error)(f"{name}: {error.message[0].lower()}{error.message[1:]}") from None
    ref = ImageRef(
        bucket="inputs",
        sha256=hashlib.sha256(data).hexdigest(),
        content_type=info.content_type,
        width=info.width,
        height=info.height,
        size_bytes=len(data),
    )
    return Upload(data, ref)
