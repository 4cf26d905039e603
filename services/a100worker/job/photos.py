"""Keeps the decoded photos and results of the last jobs, so that another edit does not decode them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cachetools import LRUCache

from shared import metrics
from shared.image_codec import decode_photo

if TYPE_CHECKING:
    from shared.image_codec import Photo


class DecodedPhotos:
    """Decodes photos and keeps the last ones, up to a number of bytes. One thread uses it at a time.

    For a photo that does not fit, all others are dropped, so that its edit has enough memory.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._kept: LRUCache[str, Photo] = LRUCache(limit_bytes, getsizeof=_bytes_of)

    def get(self, sha256: str, data: bytes) -> Photo:
        """Return a photo with its transparency and depth; `data` is its file. All arrays are read-only and shared.

        Raises BadImage, TooLarge.
        """
        photo = self._kept.get(sha256)
        metrics.count_lookup("decoded", hit=photo is not None)
        if photo is not None:
            return photo
        photo = decode_photo(data, with_alpha=True, with_depth=True)
        if not self.keep(sha256, photo):
            self._kept.clear()
        return photo

    def keep(self, sha256: str, photo: Photo) -> bool:
        """Keep a photo as its file would be decoded, and return whether it fits. Its arrays become read-only."""
        for pixels in (photo.rgb, photo.rgba, photo.deep):
            if pixels is not None:
                pixels.setflags(write=False)
        if _bytes_of(photo) > self._kept.maxsize:
            return False
        self._kept[sha256] = photo
        return True


def _bytes_of(photo: Photo) -> int:
    return sum(pixels.nbytes for pixels in (photo.rgb, photo.rgba, photo.deep) if pixels is not None)
