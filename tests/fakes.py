"""Stand-ins for what a unit test should not need; each passes the same tests as what it stands in for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from shared.errors import BadImage, ImageNotFound
from shared.image_codec import probe
from shared.messages import ImageRef

if TYPE_CHECKING:
    from shared.image_store import Bucket


class FakeImageStore:
    """ImageStore in memory, without a broker. Not for tests of expiry or of a full store."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Bucket, str], tuple[ImageRef, bytes]] = {}

    async def put(self, bucket: Bucket, data: bytes, ref: ImageRef | None = None) -> ImageRef:
        """See ImageStore."""
        sha256 = hashlib.sha256(data).hexdigest()
        if (bucket, sha256) in self._kept:
            return self._kept[bucket, sha256][0]
        if ref is None:
            info = probe(data)
            ref = ImageRef(
                bucket=bucket,
                sha256=sha256,
                content_type=info.content_type,
                width=info.width,
                height=info.height,
                size_bytes=len(data),
            )
        elif (ref.bucket, ref.sha256) != (bucket, sha256):
            raise BadImage("The reference does not belong to the picture.")
        self._kept[bucket, sha256] = ref, data
        return ref

    async def get(self, bucket: Bucket, sha256: str) -> bytes:
        """See ImageStore."""
        if (bucket, sha256) not in self._kept:
            raise ImageNotFound
        return self._kept[bucket, sha256][1]

    async def head(self, bucket: Bucket, sha256: str) -> ImageRef | None:
        """See ImageStore."""
        kept = self._kept.get((bucket, sha256))
        return None if kept is None else kept[0]
