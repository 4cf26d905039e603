"""Chooses the format of a rendition, estimates its memory, and refuses a picture that cannot fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shared.deep_pixels import KEPT
from shared.errors import TooLarge
from shared.image_formats import CONTENT_TYPES
from shared.image_memory import LARGEST_BYTES

if TYPE_CHECKING:
    from shared.messages import ImageRef

# Bytes a pixel while a format is encoded: Pillow's picture with 4, and the rest as measured (docs/pictures.md).
_PIXEL_BYTES: Final = {"PNG": 4, "JPEG": 11, "WEBP": 30, "AVIF": 50, "TIFF": 10, "BMP": 12}
_LOADING_PIXEL_BYTES: Final = 8  # Pillow's picture, and a copy when the file is closed
_DEEP_PIXEL_BYTES: Final = 8  # with 16 bits a channel
_MORE_DEEP_PIXEL_BYTES: Final = 8  # OpenCV holds them twice while it reads a PNG
_REDUCING_PIXEL_BYTES: Final = 24  # with 16 bits, with 8, and on white, as `shared/image_memory.py` counts them
_LOADING_FILES: Final = 2  # the file, and its part without metadata
MAX_AVIF_PX: Final = 16_777_216
MAX_LOSSLESS_WEBP_PX: Final = 16_777_216  # 5 s on one core
MAX_TRANSPARENT_WEBP_PX: Final = 29_000_000  # its opacity is compressed without loss, which takes the most memory
MAX_WEBP_SIDE_PX: Final = 16_383  # limit of the format
KINDS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "avif": "AVIF"}
_BY_TYPE = {content_type: kind for kind, content_type in CONTENT_TYPES.items()}
_WITHOUT_ALPHA = frozenset({"JPEG", "BMP"})

UPLOAD_GONE = "the upload is gone: PNG without camera data"
HEIC_AS_JPEG = "HEIC cannot be written: JPEG"
_FEW_COLOURS = "GIF has too few colours: PNG"
_NO_ICON = "ICO is for small pictures: PNG"
_TOO_LARGE_AS_JPEG = "too large for AVIF: JPEG"
_ALPHA_AS_PNG = "transparent: PNG"
_TOO_LARGE_AS_PNG = "too large for this kind of WebP: PNG"
ON_WHITE = "transparency laid on white"
EIGHT_BITS = "16 bits reduced to 8"
LIGHT_LOST = "light beyond white not stated"
_REPLACED = {"HEIF": ("JPEG", [HEIC_AS_JPEG]), "GIF": ("PNG", [_FEW_COLOURS]), "ICO": ("PNG", [_NO_ICON])}


class Picture(NamedTuple):
    """The facts that determine the format: the size in pixels, and whether the picture may be transparent."""

    width: int
    height: int
    transparent: bool

    @property
    def pixels(self) -> int:
        """The number of pixels."""
        return self.width * self.height


def kind_of(content_type: str) -> str | None:
    """Return the format of a content type, as shared/image_formats.py names it."""
    return _BY_TYPE.get(content_type)


def choose_kind(wanted: str, upload: str | None, picture: Picture, *, lossless: bool = False) -> tuple[str, list[str]]:
    """Return the format to encode, and notes if it is not the wanted one.

    `upload` is the format of the upload, None if it was deleted; `lossless` is True for a lossless WebP. Raises
    TooLarge.
    """
    if wanted != "original":
        kind = KINDS[wanted]
        _check_size(kind, picture)
        return kind, []
    kind, notes = _original(upload, picture, lossless=lossless)
    if picture.transparent and kind in _WITHOUT_ALPHA:
        return "PNG", [*notes[:-1], _ALPHA_AS_PNG]
    return kind, notes


def _original(upload: str | None, picture: Picture, *, lossless: bool) -> tuple[str, list[str]]:
    if upload is None:
        return "PNG", [UPLOAD_GONE]
    if upload in _REPLACED:
        return _REPLACED[upload]
    if upload == "AVIF" and picture.pixels > MAX_AVIF_PX:
        return "JPEG", [_TOO_LARGE_AS_JPEG]
    largest = MAX_LOSSLESS_WEBP_PX if lossless else MAX_TRANSPARENT_WEBP_PX
    if upload == "WEBP" and (lossless or picture.transparent) and picture.pixels > largest:
        return "PNG", [_TOO_LARGE_AS_PNG]
    return upload, []


def _check_size(kind: str, picture: Picture) -> None:
    if kind == "AVIF" and picture.pixels > MAX_AVIF_PX:
        raise TooLarge(
            f"The picture is too large for an AVIF: at most {MAX_AVIF_PX // 1_000_000} megapixels. Choose jpeg or png."
        )
    if kind == "WEBP" and max(picture.width, picture.height) > MAX_WEBP_SIDE_PX:
        raise TooLarge(f"A WebP has at most {MAX_WEBP_SIDE_PX} pixels a side. Choose jpeg or png.")
    if kind == "WEBP" and picture.transparent and picture.pixels > MAX_TRANSPARENT_WEBP_PX:
        raise TooLarge("The picture is too large for a WebP with transparency. Choose png.")


def estimate_bytes(kind: str, image: ImageRef, upload: ImageRef | None) -> int:
    """Return the memory in bytes that a rendition takes, its files included.

    Raises TooLarge if the rendition needs more memory than the service may use.
    """
    pixels = image.width * image.height
    is_deep = upload is not None and KEPT in (upload.notes or ())
    loading = _LOADING_FILES * image.size_bytes + _LOADING_PIXEL_BYTES * pixels
    encoding = _PIXEL_BYTES[kind] * pixels
    if kind == "PNG":
        loading, encoding = 3 * image.size_bytes, 0
    elif kind == "TIFF":
        encoding = max(encoding, 3 * pixels + 4 * image.size_bytes)
        if is_deep:
            loading += _MORE_DEEP_PIXEL_BYTES * pixels
            encoding = max(encoding, _DEEP_PIXEL_BYTES * pixels + 4 * image.size_bytes)
    elif is_deep:
        loading = image.size_bytes + _REDUCING_PIXEL_BYTES * pixels
    needed = max(loading, encoding) + (upload.size_bytes if upload is not None else 0)
    # An opaque WebP takes half, and `_check_size` has refused the others; 16 bits are counted with more than they take.
    if kind == "WEBP" or (is_deep and kind not in {"PNG", "TIFF"}):
        needed = min(needed, LARGEST_BYTES)
    if needed > LARGEST_BYTES:
        raise TooLarge("The result is too large to be converted. Download it as it is stored, without a format.")
    return needed
