"""Checks and stores the images that clients upload. Stored images are named by their SHA-256.

Only child processes open files (services/gateway/decoding); their findings are cached by hash.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import pybase64
from cachetools import FIFOCache, TTLCache

from shared.errors import BadImage, BadInput, ImageNotFound
from shared.image_store import digest
from shared.messages import ImageRef

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from services.gateway.access.ownership import Ownership
    from services.gateway.decoding.decoders import Decoders
    from shared.image_store import DescribedStore

T = TypeVar("T")
_REMEMBERED = 1024
_SEEN, _SEEN_S = 4096, 60.0
_DECODE_IN_THREAD_BYTES = 1024**2
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOB = "is an address inside your browser, not an image; return to the original photo and try again."


class Room(Protocol):
    """Makes room in the stores."""

    async def make_room(self, owner: str, bucket: Literal["inputs"], size_bytes: int) -> None:
        """Delete the owner's least recently used images until one of this size fits. Raises Busy."""

    async def has_ample_room(self, owner: str, bucket: Literal["inputs"], size_bytes: int) -> bool:
        """Return whether much more than this size is free, by a count that is seconds old; if so, count it as used."""


class Assembly(Protocol):
    """Assembles evicted results."""

    async def assemble(self, owner: str, sha256: str) -> ImageRef | None:
        """Return a result of the owner, assembled in the bucket `cache`; None if it cannot be. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A complete image within the limits, not stored yet."""

    data: bytes
    ref: ImageRef


class Uploads:
    """Reads uploads and stores them in the bucket `inputs`. `name` is the image's name in error texts."""

    def __init__(
        self,
        images: DescribedStore,
        ownership: Ownership,
        stores: Room,
        decoders: Decoders,
        assembly: Assembly | None = None,
    ) -> None:
        self._images = images
        self._ownership = ownership
        self._stores = stores
        self._decoders = decoders
        self._assembly = assembly
        # By hash, because users send the same image and mask again with another seed or prompt.
        self._known: FIFOCache[str, ImageRef] = FIFOCache(_REMEMBERED)
        self._empty: FIFOCache[str, bool] = FIFOCache(_REMEMBERED)  # whether the mask has no bright pixel
        self._seen: TTLCache[tuple[str, str], bool] = TTLCache(_SEEN, _SEEN_S)  # owner and hash

    async def read(self, text: str, name: str) -> Upload:
        """Decode and check base64, with or without a data: prefix. Raises BadInput, BadImage, TooLarge."""
        return await self.read_bytes(await _decode(text, name), name)

    async def read_bytes(self, data: bytes, name: str) -> Upload:
        """Check the bytes of an image. Raises BadInput, BadImage, TooLarge."""
        if not data:
            raise BadInput(f"The request has no {name.lower()}; send a file.")
        sha256 = await digest(data)
        if sha256 not in self._known:
            with _name_field(name):
                self._known[sha256] = _ref(sha256, data, await self._decoders.describe(data))
        return Upload(data, self._known[sha256])

    async def read_mask(self, text: str, name: str) -> Upload | None:
        """Read a mask in base64; return None for an empty mask. Raises as `read`."""
        data = await _decode(text, name)
        sha256 = await digest(data)
        with _name_field(name):
            if await self._judge(sha256, data):
                return None
        return await self.read_bytes(data, name)

    async def read_alpha_mask(self, data: bytes, name: str) -> tuple[Upload, bool]:
        """Return a mask, white where the file is transparent, and whether it marks nothing. Raises as `read`."""
        with _name_field(name):
            marked = await self._decoders.convert_alpha_mask(data)
            sha256 = await digest(marked)
            is_empty = await self._judge(sha256, marked)
        return Upload(marked, self._known[sha256]), is_empty

    async def convert_to_png(self, upload: Upload, name: str) -> Upload:
        """Return the upright image as PNG. Raises BadImage, TooLarge."""
        return await self.read_bytes(await self._decoders.convert_to_png(upload.data), name)

    async def find(self, owner: str, sha256: str) -> ImageRef | None:
        """Return the owner's image with this hash; None if the owner has none. Raises BrokerUnavailable."""
        if not is_sha256(sha256) or not await self._ownership.owns_image(owner, sha256):
            return None
        return await self._images.head("inputs", sha256)

    async def find_with_results(self, owner: str, sha256: str) -> ImageRef | None:
        """Return the owner's image, or the result of one of the owner's jobs, assembled if it was evicted.

        Raises Busy, Unavailable, BrokerUnavailable.
        """
        return await self.find(owner, sha256) or await self._find_result(owner, sha256)

    async def read_result(self, owner: str, result: ImageRef, read: Callable[[ImageRef], Awaitable[T]]) -> T:
        """Call `read` with the result of a job and return its value.

        If the result was evicted, use its copy among the owner's images, or assemble it. Raises ImageNotFound, Busy,
        Unavailable, BrokerUnavailable and the errors of `read`.
        """
        try:
            return await read(result)
        except ImageNotFound:
            copy = await self.find(owner, result.sha256) or await self._assemble(owner, result.sha256)
            if copy is None:
                raise
            return await read(copy)

    async def has(self, owner: str, sha256: str) -> bool:
        """Return whether the owner has the image or result, or had the image in the last minute. Raises as `store`.

        An assembled result becomes an image of the owner, because the services read the images of a request there.
        """
        if self.had_lately(owner, sha256):
            return True
        ref = await self.find_with_results(owner, sha256)
        if ref is None:
            return False
        if ref.bucket == "cache":
            await self.adopt(owner, ref)
        if ref.bucket != "results":  # a result that was edited further is evicted first
            self._seen[owner, sha256] = True
        return True

    def had_lately(self, owner: str, sha256: str) -> bool:
        """Return whether a check within the last minute found the owner's image."""
        return (owner, sha256) in self._seen

    async def store(self, owner: str, upload: Upload) -> str:
        """Store the image unless the owner has it, and return its SHA-256. Raises Busy, BrokerUnavailable."""
        await self.store_new(owner, upload)
        return upload.ref.sha256

    async def store_new(self, owner: str, upload: Upload) -> bool:
        """Store the image unless the owner has it; return whether it is new for the owner. Raises as `store`."""
        sha256, size_bytes = upload.ref.sha256, upload.ref.size_bytes
        is_marked_now = await self._mark_first(owner, upload.ref)
        is_new = force = is_marked_now or not await self._ownership.is_marked(owner, sha256)
        while True:
            if force and not is_marked_now:
                await self._stores.make_room(owner, "inputs", size_bytes)
                # Write the mark first, then the bytes again: then a deletion at the same time leaves them.
                await self._ownership.add_image(owner, sha256, size_bytes)
            is_marked_now = False
            await self._images.put("inputs", upload.data, upload.ref, force=force)
            # A deletion before this read has removed the mark; a deletion after it counts as later.
            if await self._ownership.is_marked(owner, sha256, cached=False):
                return is_new
            force = True

    async def _mark_first(self, owner: str, ref: ImageRef) -> bool:
        """Mark an image that the owner never had, without a read; return False for others, or if space is low."""
        has_room = await self._stores.has_ample_room(owner, "inputs", ref.size_bytes)
        return has_room and await self._ownership.add_first(owner, ref.sha256, ref.size_bytes)

    def forget(self, owner: str, sha256: str) -> None:
        """Look for the image in the store again before its next use."""
        self._seen.pop((owner, sha256), None)

    async def adopt(self, owner: str, ref: ImageRef) -> Upload:
        """Copy a service's image to `inputs`, so that a job can use it. Raises ImageNotFound, and as `store`."""
        upload = Upload(await self._images.get(ref.bucket, ref.sha256), ref.model_copy(update={"bucket": "inputs"}))
        await self.store(owner, upload)
        return upload

    async def _find_result(self, owner: str, sha256: str) -> ImageRef | None:
        if not is_sha256(sha256):
            return None
        ref = await self._images.head("results", sha256) if await self._ownership.owns_result(owner, sha256) else None
        return ref or await self._assemble(owner, sha256)

    async def _assemble(self, owner: str, sha256: str) -> ImageRef | None:
        return None if self._assembly is None else await self._assembly.assemble(owner, sha256)

    async def is_empty_mask(self, sha256: str) -> bool:
        """Return whether a stored mask has no bright pixel. Raises BadImage, ImageNotFound."""
        if sha256 in self._empty:
            return self._empty[sha256]
        return await self._judge(sha256, await self._images.get("inputs", sha256))

    async def _judge(self, sha256: str, data: bytes) -> bool:
        """Return whether the mask is empty, and cache all findings of this decoding."""
        if sha256 not in self._empty:
            found = await self._decoders.describe_mask(data)
            self._known[sha256] = _ref(sha256, data, found)
            self._empty[sha256] = bool(found["empty"])
        return self._empty[sha256]


def is_sha256(text: str) -> bool:
    """Return whether the text is a SHA-256 in hex."""
    return bool(_SHA256.fullmatch(text))


@contextmanager
def _name_field(name: str) -> Iterator[None]:
    """Begin the error text with the name of the image."""
    try:
        yield
    except BadInput as error:
        raise type(error)(f"{name}: {error.message[0].lower()}{error.message[1:]}") from None


async def _decode(text: str, name: str) -> bytes:
    if len(text) < _DECODE_IN_THREAD_BYTES:
        return _decode_base64(text, name)
    return await asyncio.to_thread(_decode_base64, text, name)


def _decode_base64(text: str, name: str) -> bytes:
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
    return data


def _ref(sha256: str, data: bytes, found: dict[str, Any]) -> ImageRef:
    return ImageRef(
        bucket="inputs",
        sha256=sha256,
        content_type=found["content_type"],
        width=found["width"],
        height=found["height"],
        size_bytes=len(data),
        notes=found["notes"] or None,
    )
