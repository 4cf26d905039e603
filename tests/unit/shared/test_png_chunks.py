"""The metadata of a PNG are separated from its pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from shared import png_chunks
from shared.errors import BadImage
from tests.browser.odd_files import PICTURE, chunk, exif, save

PLAIN = save(PICTURE, "PNG")
PIXELS = PLAIN.index(b"IDAT") - 4


def with_chunks(*chunks: bytes) -> bytes:
    return PLAIN[:PIXELS] + b"".join(chunks) + PLAIN[PIXELS:]


def test_metadata_is_kept_beside_the_pixels() -> None:
    """The pixels' file is the one without it, bit for bit."""
    data = with_chunks(
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"a profile")), chunk(b"gAMA", bytes([0, 0, 177, 143])),
        chunk(b"eXIf", exif(6)), chunk(b"tEXt", b"Comment\0hello"),
    )  # fmt: skip

    parts = png_chunks.read(data)

    assert parts.pixels == PLAIN
    assert (parts.exif, parts.icc, parts.colours) == (exif(6), b"a profile", {b"gAMA": bytes([0, 0, 177, 143])})
    assert parts.ended


@pytest.mark.parametrize("kind", [b"eXIf", b"gAMA", b"iCCP", b"tEXt"])
def test_a_chunk_with_a_wrong_checksum_is_left_out(kind: bytes) -> None:
    """If the pixels do not need it."""
    parts = png_chunks.read(with_chunks(chunk(kind, bytes(4), checksum=1)))

    assert parts.pixels == PLAIN
    assert (parts.exif, parts.icc, parts.colours) == (b"", None, {})


@pytest.mark.parametrize("kind", [b"IDAT", b"PLTE", b"IHDR"])
def test_damaged_pixels_are_refused(kind: bytes) -> None:
    """Their content is unknown."""
    with pytest.raises(BadImage, match="damaged"):
        png_chunks.read(with_chunks(chunk(kind, bytes(9), checksum=1)))


def test_metadata_behind_the_pixels_is_left_out() -> None:
    """Browsers have begun to draw by then."""
    parts = png_chunks.read(PLAIN[:-12] + chunk(b"eXIf", exif(6)) + PLAIN[-12:])

    assert parts.pixels == PLAIN
    assert parts.exif == b""


def test_an_end_is_added() -> None:
    """All pixels may be there without it; the decoder decides."""
    parts = png_chunks.read(PLAIN[:-12])

    assert parts.pixels == PLAIN
    assert not parts.ended


def test_a_file_without_pixels_is_refused() -> None:
    """At the door, and not in the job."""
    with pytest.raises(BadImage, match="incomplete"):
        png_chunks.read(PLAIN[:PIXELS] + PLAIN[-12:])


@pytest.mark.parametrize(("stated", "frames"), [(0, 0), (1, 1), (2**31 + 1, 0), (2**31 - 1, 1)])
def test_the_frames_are_those_in_the_file(stated: int, frames: int) -> None:
    """A file can state any number."""
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, *PICTURE.size, 0, 0, 1, 1, 0, 0))

    parts = png_chunks.read(with_chunks(chunk(b"acTL", struct.pack(">II", stated, 0)), control))

    assert (parts.frames, parts.frame, parts.pixels) == (frames, None, PLAIN)


def test_a_profile_bomb_is_cut() -> None:
    """It is read up to the length of the largest real profiles."""
    parts = png_chunks.read(with_chunks(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(50_000_000)))))

    assert len(parts.icc or b"") <= 16 * 1024**2


def test_the_first_frame_is_read_where_it_is_not_the_still_picture() -> None:
    """As a file of its own, with its place on the canvas."""
    from tests.browser.odd_files import files  # noqa: PLC0415 (a second of work for one test)

    parts = png_chunks.read(files()["png animation of a part"])

    assert parts.frame == (16, 8, 4, 2)
    assert parts.frames == 2
    with Image.open(io.BytesIO(parts.pixels)) as picture:
        turned = np.array(PICTURE.rotate(180).crop((0, 0, 16, 8)))
        assert np.array_equal(np.array(picture), turned)


@pytest.mark.parametrize("data", [b"", PLAIN[:20], PLAIN[:8] + chunk(b"IDAT", b"")])
def test_a_file_without_a_header_is_an_error(data: bytes) -> None:
    """The caller raises the error that it is not an image."""
    with pytest.raises(ValueError, match="header"):
        png_chunks.read(data)
