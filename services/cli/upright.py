"""The orientation of a photo, as the server reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import ImageOps

if TYPE_CHECKING:
    from PIL import Image


def turn_upright(opened: Image.Image) -> Image.Image:
    """Return the picture turned by its EXIF orientation alone, and a WebP as it is: the server and browsers do so."""
    if opened.format == "WEBP":
        return opened
    opened.info.pop("xmp", None)  # Pillow would turn it by the XMP data, too
    opened.info.pop("XML:com.adobe.xmp", None)
    return ImageOps.exif_transpose(opened)
