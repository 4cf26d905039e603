"""The formats of image files and their limits, for processes that read image files or only name formats.

It imports no image library.
"""

from __future__ import annotations

import importlib.util
import logging

CONTENT_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "ICO": "image/vnd.microsoft.icon",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
}
FORMATS = tuple(CONTENT_TYPES)
MAX_PIXELS = 67_108_864  # 8192 x 8192; the telephones with 64 megapixels send 9248 x 6936
MAX_SIDE_PX = 32_767
_HEIF_DECODER = "pi_heif"

log = logging.getLogger(__name__)


def missing_decoders() -> tuple[str, ...]:
    """Return the formats without a decoder on this machine."""
    return ("HEIF",) if importlib.util.find_spec(_HEIF_DECODER) is None else ()


def report_missing_decoders() -> dict[str, str]:
    """Log the formats that this process cannot read, and return them for its health; nothing if it reads all."""
    missing = missing_decoders()
    for name in missing:
        log.warning("decoder.missing", extra={"format": name})
    return {"missing_formats": ", ".join(missing)} if missing else {}
