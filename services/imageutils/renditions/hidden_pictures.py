"""Finds pictures in values of metadata, because any value can contain a preview of the unedited photo."""

from __future__ import annotations

import re

_STARTS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|RIFF.{4}WEBP|ftyp(?:hei|hev|avi|mif|msf)|GIF8[79]a|II\*\0|MM\0\*", re.DOTALL
)
# The same in base64, long enough to be a picture: JPEG, PNG, WebP, GIF, HEIC and AVIF, TIFF of both byte orders.
_IN_BASE64 = re.compile(
    rb"(?:/9j/|iVBORw0KG|UklGR|R0lGOD[dl]h|AAAA[0-9A-Za-z+/]{2}Z0eXB|SUkqA|TU0AK)[0-9A-Za-z+/=\s&#;]{100}"
)


def holds_picture(value: bytes) -> bool:
    """Return whether a value contains the start of a picture, as it is or in base64."""
    return _STARTS.search(value) is not None or holds_picture_as_text(value)


def holds_picture_as_text(text: bytes) -> bool:
    """Return whether a text contains a picture in base64."""
    return _IN_BASE64.search(text) is not None
