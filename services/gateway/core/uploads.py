"""Pictures as clients send them: read and checked first, stored once, named by their SHA-256 from then on."""

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
_MASKS = 1024
_SEEN, _SEEN_S = 4096, 60.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOB = "is an address inside your browser, not a picture; return to the original photo and try again."


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture that is whole and within bounds, and not stored yet."""

    data: bytes
    ref: ImageRef


class Uploads:
    """The way of pictures into bucket `inputs`. `what` names the picture in the sentence that refuses it."""

    def __init__(self, images: ImageStore, ownership: Ownership, reads_at_once: int) -> None:
        self._images = images
        self._ownership = ownership
        # 64 megapixels can be a file of 50 kB, and are 256 MB when a check has to unpack them.
        self._reading = asyncio.Semaphore(reads_at_once)
        self._empty: FIFOCache[str, bool] = FIFOCache(_MASKS)  # by hash: whether the mask marks nothing
        self._seen: TTLCache[tuple[str, str], bool] = TTLCache(_SEEN, _SEEN_S)  # owner and hash

    async def read(self, text: str, what: str) -> Upload:
        """Read base64, with or without a data URL in front. Raises BadInput, BadImage or TooLarge."""
        return await self.unpack(_from_text, text, what)

    async def read_bytes(self, data: bytes, what: str) -> Upload:
        """Check a picture that came as it is. Raises BadInput, BadImage or TooLarge."""
        return await self.unpack(_checked, data, what)

    async def read_mask(self, text: str, what: str) -> Upload | None:
        """Read a mask; None if it marks nothing. Raises as `read`."""
        upload = await self.read(text, what)
        return None if await self._marks_nothing(upload.ref.sha256, upload.data) else upload

    async def known(self, owner: str, sha256: str) -> ImageRef | None:
        """Return the owner's picture of this name; None if it is not there, or only others have it.

        Raises BrokerUnavailable.
        """
        if not _SHA256.fullmatch(sha256) or not await self._ownership.owns_image(owner, sha256):
            return None
        return await self._images.head("inputs", sha256)

    async def has(self, owner: str, sha256: str) -> bool:
        """Whether the owner's picture is there, or was within the last minute: pictures stay for days.

        Raises BrokerUnavailable.
        """
        if (owner, sha256) in self._seen:
            return True
        if await self.known(owner, sha256) is None:
            return False
        self._seen[owner, sha256] = True
        return True

    async def store(self, owner: str, upload: Upload) -> str:
        """Store it, if the owner has not done so yet, and return its SHA-256. Raises Busy, BrokerUnavailable."""
        sha256 = upload.ref.sha256
        owned = await self._ownership.owns_image(owner, sha256)
        await self._images.put("inputs", upload.data, upload.ref, force=not owned)
        if not owned:
            await self._ownership.add_image(owner, sha256)
        return sha256

    async def adopt(self, owner: str, ref: ImageRef) -> Upload:
        """Store a picture that a service made, so that a job can name it. Raises ImageNotFound and as `store`."""
        upload = Upload(await self._images.get(ref.bucket, ref.sha256), ref.model_copy(update={"bucket": "inputs"}))
        await self.store(owner, upload)
        return upload

    async def marks_nothing(self, sha256: str) -> bool:
        """Whether a stored mask has no bright pixel. Raises BadImage, ImageNotFound."""
        if sha256 in self._empty:
            return self._empty[sha256]
        return await self._marks_nothing(sha256, await self._images.get("inputs", sha256))

    async def unpack(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what may unpack a picture in a thread, when there is room for it."""
        async with self._reading:
            return await asyncio.to_thread(work, *args, **kwargs)

    async def _marks_nothing(self, sha256: str, data: bytes) -> bool:
        # To unpack it takes 12 ms a megapixel, and the same mask comes again with the next seed or prompt.
        if sha256 not in self._empty:
            self._empty[sha256] = await self.unpack(mask_is_empty, data)
        return self._empty[sha256]


def _from_text(text: str, what: str) -> Upload:
    if text.startswith("blob:"):
        raise BadImage(f"{what}: this {_BLOB}")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = pybase64.b64decode(text, validate=True)
    except ValueError:
        raise BadImage(f"{what}: this is not valid base64.") from None
    return _checked(data, what)


def _checked(data: bytes, what: str) -> Upload:
    if not data:
        raise BadInput(f"{what}: there is none in the request.")
    try:
        info = probe(data)
    except BadInput as error:
        raise type(error)(f"{what}: {error.message[0].lower()}{error.message[1:]}") from None
    ref = ImageRef(
        bucket="inputs",
        sha256=hashlib.sha256(data).hexdigest(),
        content_type=info.content_type,
        width=info.width,
        height=info.height,
        size_bytes=len(data),
    )
    return Upload(data, ref)
