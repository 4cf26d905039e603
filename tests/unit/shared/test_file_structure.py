"""Files with millions of empty parts are refused before a decoder parses them; files of cameras are accepted."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import pytest
from PIL import Image, ImageSequence

from shared.errors import BadImage
from shared.file_structure import MAX_CHUNKS, MAX_SCANS, MAX_SEGMENTS, check_structure
from shared.image_codec import decode_mask, decode_photo, mask_is_empty, probe

CAT = Image.open(Path(__file__).parents[3] / "services/gateway/static/samples/cat.jpg").resize((31, 24))
SCAN = bytes.fromhex("ffda 0008 01 01 00 01 3f 00")  # AC coefficients 1 to 63 of the first component, without data


def save(picture: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    """Return the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


JPEG, PNG, TIFF, GIF, WEBP = (save(CAT, name) for name in ("JPEG", "PNG", "TIFF", "GIF", "WEBP"))
PROGRESSIVE = save(CAT, "JPEG", progressive=True)


def segment(marker: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def in_jpeg(parts: bytes) -> bytes:
    """Return a JPEG with more parts behind its first marker."""
    return JPEG[:2] + parts + JPEG[2:]


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def in_png(parts: bytes) -> bytes:
    """Return a PNG with more chunks behind its header."""
    return PNG[:33] + parts + PNG[33:]


def in_gif(parts: bytes) -> bytes:
    """Return a GIF with more parts behind its palette of 256 colours."""
    return GIF[:781] + parts + GIF[781:]


def tiff(*tags: tuple[int, int, int, int], number: int | None = None, following: int = 0) -> bytes:
    """Return a TIFF header and one directory; a tag is (tag, type, number of values, value or offset)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags) if number is None else number) + entries + bytes([following] * 4)


def exif(directory: bytes) -> bytes:
    return segment(0xE1, b"Exif\0\0" + directory)


def box(kind: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I", 8 + len(body)) + kind + body


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def icon(*pictures: bytes, entries: int | None = None) -> bytes:
    """Return an icon file; the directory may hold more entries than there are pictures."""
    number = len(pictures) if entries is None else entries
    starts = accumulate((len(picture) for picture in pictures), initial=6 + 16 * number)
    directory = [
        struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 32, len(p), s) for p, s in zip(pictures, starts, strict=False)
    ]
    return struct.pack("<HHH", 0, 1, number) + b"".join(directory).ljust(16 * number, b"\0") + b"".join(pictures)


def bmp(width: int, height: int, compression: int, body: bytes = b"") -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + header + body


MANY_TAGS = tiff(*[(tag, 3, 1, 1) for tag in range(5000)])
COMPRESSED = b"a\0\0" + zlib.compress(bytes(1_000_000))
BOMBS = {
    "progressive scans": (PROGRESSIVE[:-2] + SCAN * 8000 + PROGRESSIVE[-2:], "JPEG scans"),
    "baseline scans": (JPEG[:-2] + SCAN * 8000 + JPEG[-2:], "JPEG scans"),
    "scans behind a comment": (PROGRESSIVE[:-2] + (segment(0xFE, b"\xff\xd9") + SCAN) * 200, "JPEG scans"),
    "scans behind a marker without length": (PROGRESSIVE[:-2] + b"\xff\x01" + SCAN * 200, "JPEG scans"),
    "arithmetic scans": (PROGRESSIVE.replace(b"\xff\xc2", b"\xff\xca")[:-2] + SCAN * 40, "JPEG scans"),
    "empty APP13 segments": (in_jpeg(segment(0xED) * 2_000_000), "JPEG segments"),
    "markers without length": (in_jpeg(b"\xff\xd8" * 500_000), "JPEG segments"),
    "EXIF segments of a byte": (in_jpeg(segment(0xE1, b"Exif\0\0x") * 500_000), "JPEG segments"),
    "quantisation tables": (in_jpeg(segment(0xDB, bytes(65 * 1000)) * 100), "bytes of JPEG tables"),
    "components of a frame": (in_jpeg(segment(0xC0, bytes(60_000)) * 100), "bytes of JPEG tables"),
    "Photoshop blocks": (in_jpeg(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\1\0\0\0\0\0\0\0" * 5000)), "Photoshop"),
    "bytes between segments": (in_jpeg(segment(0xE5) + bytes(200_000)), "bytes between its JPEG segments"),
    "padding between segments": (in_jpeg(b"\xff" * 200_000), "bytes between its JPEG segments"),
    "empty PNG chunks": (in_png(chunk(b"teSt") * 500_000), "PNG chunks without pixels"),
    "empty PNG pixels": (in_png(chunk(b"IDAT") * 500_000), "PNG chunks"),
    "colour profiles that inflate": (in_png(chunk(b"iCCP", COMPRESSED) * 2000), "compressed texts and profiles"),
    "GIF comments": (in_gif(b"!\xfe\1a\0" * 500_000), "GIF blocks without pixels"),
    "GIF sub-blocks of a byte": (GIF[:-1] + b"," + bytes(8) + b"\0\2" + b"\1a" * 2_000_000, "GIF blocks"),
    "GIF frames": (GIF[:-1] + (b"," + bytes(9) + b"\2\0") * 100_000, "GIF frames"),
    "bytes between GIF blocks": (in_gif(b"x" * 200_000), "bytes between its GIF blocks"),
    "TIFF tags": (MANY_TAGS, "tags in a directory of its TIFF"),
    "BigTIFF tags": (struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, 2_000_000), "tags in a directory of its TIFF"),
    "TIFF strips": (tiff((0x0111, 4, 2_000_000, 8)), "values in a tag of its TIFF"),
    "TIFF pages": (
        b"II*\0\x08\0\0\0" + b"".join(struct.pack("<HI", 0, 8 + 6 * page) for page in range(1, 10_000)),
        "pages or directories in its TIFF",
    ),
    "TIFF pages that overlap": (
        b"II*\0\x08\0\0\0" + b"".join(struct.pack("<HI", 1000, 8 + 6 * page) for page in range(1, 200_000)),
        "its TIFF",
    ),
    "WebP chunks": (riff(*[b"abcd" + bytes(4)] * 500_000), "WebP chunks"),
    "run-length encoded pixels": (bmp(16_000, 4000, 1, b"\0\0" * 4000), "pixels and is a run-length encoded BMP"),
    "run-length encoded bytes": (bmp(100, 100, 2, b"\1\0" * 3_000_000), "bytes and is a run-length encoded BMP"),
    "icons": (icon(PNG, entries=60_000), "pictures in its ICO"),
    "icons of many chunks": (icon(*[PNG + chunk(b"teSt") * 100] * 100), "PNG chunks without pixels"),
    "a large picture in an icon": (icon(PNG[:16] + struct.pack(">II", 16_000, 4000) + PNG[24:]), "pixels a side"),
    "boxes": (box(b"ftyp", b"avif") + box(b"meta", bytes(4), box(b"iinf", bytes(6), box(b"infe") * 5000)), "boxes"),
    "boxes counted in four bytes": (
        box(b"ftyp", b"heic") + box(b"meta", bytes(4), box(b"iinf", b"\1" + bytes(7), box(b"infe") * 5000)),
        "boxes",
    ),
}
HARMLESS = {  # no decoder reads these parts
    "EXIF tags": in_jpeg(exif(MANY_TAGS)),
    "EXIF segments of 64 kB": in_jpeg(segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 500),
    "EXIF tags in a sub-directory": in_jpeg(exif(tiff((0x8769, 4, 1, 26)) + MANY_TAGS[8:])),
    "EXIF directories that never end": in_jpeg(exif(tiff(number=65_535) + bytes(60_000))),
    "EXIF fractions": in_jpeg(exif(tiff((0x011A, 5, 8000, 26)) + bytes(64_000))),
    "EXIF tags in a PNG": in_png(chunk(b"eXIf", MANY_TAGS)),
    "EXIF tags in a WebP": WEBP[:4] + struct.pack("<I", len(WEBP) + len(MANY_TAGS)) + WEBP[8:]
    + b"EXIF" + struct.pack("<I", len(MANY_TAGS)) + MANY_TAGS,
}  # fmt: skip
PAGES = [CAT.rotate(angle) for angle in range(0, 360, 2)]
ORDINARY = {
    "scans": PROGRESSIVE[:-2] + SCAN * (MAX_SCANS - PROGRESSIVE.count(b"\xff\xda")) + PROGRESSIVE[-2:],
    "a film behind the photo": JPEG + b"\xff\xda" * 5000,
    "a profile in 255 segments": in_jpeg(segment(0xE2, b"ICC_PROFILE\0" + bytes(100)) * 255),
    "segments": in_jpeg(segment(0xE5) * (MAX_SEGMENTS - 20)),
    "PNG chunks": PNG[:33] + chunk(b"IDAT") * (MAX_CHUNKS - 10) + PNG[33:],
    "a TIFF of 180 pages": save(PAGES[0], "TIFF", save_all=True, append_images=PAGES[1:]),
    "a BigTIFF": save(CAT, "TIFF", big_tiff=True),
    "a TIFF of a row each strip": save(CAT.resize((16, 8000)), "TIFF", compression="tiff_lzw", strip_size=1),
    "a GIF of 180 frames": save(PAGES[0], "GIF", save_all=True, append_images=PAGES[1:]),
    "a PNG of 180 frames": save(PAGES[0], "PNG", save_all=True, append_images=PAGES[1:]),
    "a WebP of 180 frames": save(PAGES[0], "WEBP", save_all=True, append_images=PAGES[1:]),
    "a directory that follows itself": in_jpeg(exif(tiff((0x0112, 3, 1, 1))[:-4] + struct.pack("<I", 8))),
    "an icon": save(CAT, "ICO"),
    "an icon of bitmaps": save(CAT, "ICO", bitmap_format="bmp"),
    "a bitmap": save(CAT, "BMP"),
    "a short run-length encoded bitmap": bmp(100, 100, 1, b"\x64\0\0\0" * 100),
    "an AVIF": save(CAT, "AVIF"),
    "a text": b"no image",
    "nothing": b"",
}


@pytest.mark.parametrize(("data", "parts"), BOMBS.values(), ids=BOMBS)
def test_millions_of_parts_are_refused(data: bytes, parts: str) -> None:
    """A sentence says which parts are too many."""
    with pytest.raises(
        BadImage, match=rf"^The file has more than [\d,]+ .*{parts}.*\. Save it again with an image editor"
    ):
        check_structure(data)


@pytest.mark.parametrize("data", HARMLESS.values(), ids=HARMLESS)
def test_metadata_never_cost_the_pixels(data: bytes) -> None:
    """Browsers show these files, so they are read, and their metadata reach no decoder."""
    assert (probe(data).width, probe(data).height) == CAT.size
    assert decode_photo(data).rgb.shape == (24, 31, 3)


@pytest.mark.parametrize("data", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_files_pass(data: bytes) -> None:
    """The bounds are above the files of cameras and programs. The decoder checks everything else."""
    check_structure(data)


@pytest.mark.parametrize("data", [pair[0] for pair in BOMBS.values()], ids=BOMBS)
def test_a_bomb_cut_short_never_raises_anything_else(data: bytes) -> None:
    """Each prefix of a bomb is a valid argument."""
    for length in {0, 1, 4, 9, 14, 20, 26, 33, 40, 54, len(data) // 2}:
        with suppress(BadImage):
            check_structure(data[:length])


@pytest.mark.parametrize("read", [probe, decode_photo, decode_mask, mask_is_empty], ids=lambda read: read.__name__)
def test_every_reader_counts_before_it_decodes(read: object) -> None:
    """`nats obj put` and `nats pub` bypass the gateway, so each service counts for itself."""
    assert callable(read)

    with pytest.raises(BadImage, match="more than 100 JPEG scans"):
        read(BOMBS["progressive scans"][0])


def test_pillow_agrees_about_the_ordinary_files() -> None:
    """The files above are files: Pillow opens each of them and reads its first frame."""
    for name in ("scans", "a film behind the photo", "segments", "PNG chunks", "a TIFF of 180 pages", "an icon"):
        with Image.open(io.BytesIO(ORDINARY[name])) as image:
            assert next(ImageSequence.Iterator(image)).getbbox() is not None, name
