"""The codec on damaged files: whatever the bytes are, the result is an image or BadInput."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.errors import BadInput
from shared.image_codec import decode_mask, decode_photo, mask_is_empty, probe

if TYPE_CHECKING:
    from collections.abc import Callable

CAT = Image.open(Path(__file__).parents[3] / "services/gateway/static/samples/cat.jpg").resize((31, 24))
TURNED = Image.Exif()
TURNED[0x0112] = 6


def save(picture: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


VALID = [
    *(save(CAT, name, exif=TURNED) for name in ("PNG", "JPEG", "WEBP", "TIFF")),
    *(save(CAT.convert(mode), "PNG") for mode in ("RGBA", "LA", "P", "1", "I;16")),
    *(save(CAT, "TIFF", compression=name) for name in ("tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate")),
    *(save(CAT, name, save_all=True, append_images=[CAT.rotate(9)]) for name in ("GIF", "PNG", "WEBP", "MPO")),
    *(save(CAT, name) for name in ("BMP", "ICO")),
    save(CAT, "AVIF", exif=TURNED),
    (Path(__file__).parent / "heic" / "turned.heic").read_bytes(),
    (Path(__file__).parent / "heic" / "transparent.heic").read_bytes(),
    save(CAT.convert("CMYK"), "JPEG"),
    save(CAT, "JPEG", progressive=True),
    save(CAT, "WEBP", lossless=True),
    save(Image.fromarray(np.array(CAT.convert("L"), np.float32)), "TIFF"),
]
WORDS = st.sampled_from(
    [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\x40\0", b"\xff\xff"]
)


@st.composite
def tamper(draw: st.DrawFn) -> bytes:
    """Return a valid file with bytes overwritten, inserted or removed, and correct checksums if it is a PNG."""
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 6))):
        # most fields that a parser trusts are in the first bytes
        at = draw(st.one_of(st.integers(0, min(200, len(data))), st.integers(0, len(data))))
        new = draw(st.one_of(WORDS, st.binary(max_size=8)))
        data[at : at + draw(st.sampled_from([0, len(new), len(new), 4]))] = new
    return _sound_png(data) if draw(st.booleans()) else bytes(data)


def _sound_png(data: bytearray) -> bytes:
    """Correct the checksums, so that the parser reads the chunks behind them."""
    at = 8
    while data.startswith(b"\x89PNG") and at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


@pytest.mark.filterwarnings("ignore")  # Pillow warns about files that it repairs
@pytest.mark.parametrize("read", [probe, decode_photo, decode_mask, mask_is_empty], ids=lambda read: read.__name__)
def test_tampered_files_raise_nothing_but_bad_input(read: Callable[[bytes], object]) -> None:
    """No other exception reaches a service, so no upload can look like a fault of ours."""

    @settings(max_examples=300)
    @given(tamper())
    def holds(data: bytes) -> None:
        with suppress(BadInput):
            read(data)

    holds()


@given(st.binary(max_size=64).map(lambda tail: b"\x89PNG\r\n\x1a\n" + tail) | st.binary(max_size=64))
def test_noise_is_refused(data: bytes) -> None:
    """Bytes that are no file at all, with and without the first eight of a PNG."""
    with pytest.raises(BadInput):
        decode_photo(data)
