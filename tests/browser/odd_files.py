"""Picture files with unusual, broken or misplaced metadata, all of which browsers show."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SHORT, _ORIENTATION = 3, 0x0112
_TYPES = {"byte": 1, "ascii": 2, "long": 4, "rational": 5, "undefined": 7, "sshort": 8}
_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
_COLOURS = [(220, 40, 40), (40, 200, 60), (50, 60, 210), (230, 220, 90)]
PICTURE = Image.new("RGB", (32, 16))
for _place, _colour in zip([(0, 0), (16, 0), (0, 8), (16, 8)], _COLOURS, strict=True):
    PICTURE.paste(_colour, (*_place, _place[0] + 16, _place[1] + 8))


def files() -> dict[str, bytes]:
    """Return the files by name. The name begins with the format."""
    return {**_jpegs(), **_pngs(), **_webps(), **_others()}


def save(picture: Image.Image, file_format: str, **options: object) -> bytes:
    """Return the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def exif(value: int = 6, kind: int = _SHORT, count: int = 1, order: str = "<", ifd: int = 0) -> bytes:
    """Return a TIFF block with one orientation tag, in the first or second directory."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 8: 2}[kind] * count
    field = struct.pack(f"{order}HHI", _ORIENTATION, kind, count)
    body = {1: "B3x", 2: "B3x", 3: "H2x", 4: "I", 5: "4x", 7: "B3x", 8: "h2x"}[kind]
    packed = struct.pack(f"{order}{body}", *([] if kind == _TYPES["rational"] else [value]))
    if ifd == 1:
        first = struct.pack(f"{order}IHI", 8, 0, 14)
        return head + first + struct.pack(f"{order}H", 1) + field + packed + struct.pack(f"{order}I", 0)
    if size > 4:
        packed = struct.pack(f"{order}I", 26)
    return head + struct.pack(f"{order}IH", 8, 1) + field + packed + struct.pack(f"{order}I", 0) + bytes(16)


def segment(marker: int, body: bytes) -> bytes:
    """Return a marker segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def chunk(kind: bytes, body: bytes, *, checksum: int | None = None) -> bytes:
    """Return a chunk of a PNG, also with a wrong checksum."""
    right = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", right if checksum is None else checksum)


def _jpegs() -> dict[str, bytes]:
    plain = save(PICTURE, "JPEG", quality=95, subsampling=0)
    start = 2 + 2 + int.from_bytes(plain[4:6], "big")  # behind the JFIF segment

    def tag(block: bytes, head: bytes = b"Exif\0\0") -> bytes:
        return plain[:start] + segment(0xE1, head + block) + plain[start:]

    frame = plain.index(b"\xff\xc0")
    found = {f"jpeg exif {value}": tag(exif(value)) for value in (0, 2, 3, 4, 5, 6, 7, 8, 9)}
    found |= {f"jpeg exif type {name}": tag(exif(6, kind)) for name, kind in _TYPES.items()}
    return found | {
        "jpeg": plain,
        "jpeg exif big-endian": tag(exif(6, order=">")),
        "jpeg exif count 2": tag(exif(6, count=2)),
        "jpeg exif count 0": tag(exif(6, count=0)),
        "jpeg exif second directory": tag(exif(6, ifd=1)),
        "jpeg exif garbage": tag(bytes(range(1, 90))),
        "jpeg exif cut": tag(exif(6)[:15]),
        "jpeg exif cut in the tag": tag(exif(6)[:20]),
        "jpeg exif empty": tag(b""),
        "jpeg exif twice": tag(exif(6))[:start]
        + segment(0xE1, b"Exif\0\0" + exif(6))
        + segment(0xE1, b"Exif\0\0" + exif(3))
        + plain[start:],
        "jpeg exif garbage then good": plain[:start]
        + segment(0xE1, b"Exif\0\0" + b"nonsense")
        + segment(0xE1, b"Exif\0\0" + exif(6))
        + plain[start:],
        "jpeg exif before jfif": plain[:2] + segment(0xE1, b"Exif\0\0" + exif(6)) + plain[2:],
        "jpeg exif behind the frame": plain[: frame + 19] + segment(0xE1, b"Exif\0\0" + exif(6)) + plain[frame + 19 :],
        "jpeg exif wrong prefix": tag(exif(6), b"Exif\0\1"),
        "jpeg xmp": tag(_XMP, b"http://ns.adobe.com/xap/1.0/\0"),
        **_odd_jpegs(plain, start),
    }


def _odd_jpegs(plain: bytes, start: int) -> dict[str, bytes]:
    """Return files with other oddities than EXIF data. `start` is the end of the JFIF segment."""

    def insert(extra: bytes) -> bytes:
        return plain[:start] + extra + plain[start:]

    return {
        "jpeg without its end": plain[:-2],
        "jpeg without the end's second byte": plain[:-1],
        "jpeg with data behind": plain + b"more" * 99,
        "jpeg progressive without its end": save(PICTURE, "JPEG", quality=95, subsampling=0, progressive=True)[:-2],
        "jpeg grey": save(PICTURE.convert("L"), "JPEG", quality=95, exif=exif(6)),
        "jpeg cmyk": save(PICTURE.convert("CMYK"), "JPEG", quality=95, subsampling=0),
        "jpeg of two pictures": save(
            PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(180)], quality=95, subsampling=0
        ),
        "jpeg garbage multi-picture index": insert(segment(0xE2, b"MPF\0" + bytes(range(40)))),
        "jpeg garbage photoshop block": insert(segment(0xED, b"Photoshop 3.0\08BIM\x04\x04\xff\xff\xff\xff")),
        "jpeg garbage profile": insert(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(range(90)))),
        "jpeg lost part of a profile": insert(segment(0xE2, b"ICC_PROFILE\0\1\2" + bytes(range(90)))),
        "jpeg extra bytes between segments": plain[:start] + b"\0\0\0" + plain[start:],
        "jpeg fill bytes": plain[:start] + b"\xff\xff\xff" + plain[start:],
    }


def _pngs() -> dict[str, bytes]:
    plain = save(PICTURE, "PNG")

    def before(*chunks: bytes, file: bytes = plain) -> bytes:
        at = file.index(b"IDAT") - 4
        return file[:at] + b"".join(chunks) + file[at:]

    raw = b"\nexif\n      %d\n" % len(b"Exif\0\0" + exif(6)) + (b"Exif\0\0" + exif(6)).hex().encode() + b"\n"
    palette = PICTURE.quantize(4)
    found = {f"png exif {value}": before(chunk(b"eXIf", exif(value))) for value in (3, 5, 6, 8)}
    found |= {f"png exif type {name}": before(chunk(b"eXIf", exif(6, kind))) for name, kind in _TYPES.items()}
    return found | {
        "png": plain,
        **_odd_pngs(plain),
        **_png_modes(),
        **_animations(),
        "png exif behind the pixels": _behind(plain, chunk(b"eXIf", exif(6))),
        "png exif garbage": before(chunk(b"eXIf", bytes(range(70)))),
        "png exif empty": before(chunk(b"eXIf", b"")),
        "png exif with a jpeg's prefix": before(chunk(b"eXIf", b"Exif\0\0" + exif(6))),
        "png exif twice": before(chunk(b"eXIf", exif(6)), chunk(b"eXIf", exif(3))),
        "png exif with a wrong checksum": before(chunk(b"eXIf", exif(6), checksum=1)),
        "png exif before the palette": save(palette, "PNG")[:33] + chunk(b"eXIf", exif(6)) + save(palette, "PNG")[33:],
        "png xmp": before(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _XMP)),
        "png raw profile": before(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw))),
        "png raw profile as text": before(chunk(b"tEXt", b"Raw profile type exif\0" + raw)),
    }


def _odd_pngs(plain: bytes) -> dict[str, bytes]:
    """Return files with broken chunks."""

    def before(*chunks: bytes) -> bytes:
        at = plain.index(b"IDAT") - 4
        return plain[:at] + b"".join(chunks) + plain[at:]

    return {
        "png text with a wrong checksum": before(chunk(b"tEXt", b"Comment\0hello", checksum=7)),
        "png text with a wrong checksum behind": _behind(plain, chunk(b"tEXt", b"Comment\0hello", checksum=7)),
        "png compressed text that is none": before(chunk(b"zTXt", b"Comment\0\0nonsense")),
        "png text without an end": before(chunk(b"tEXt", b"x" * 200)),
        "png international text that is none": before(chunk(b"iTXt", b"\0\0\0")),
        "png text bomb": before(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000)))),
        "png gamma of three bytes": before(chunk(b"gAMA", b"\0\0\1")),
        "png gamma zero": before(chunk(b"gAMA", bytes(4))),
        "png colours of five bytes": before(chunk(b"cHRM", bytes(5))),
        "png density of two bytes": before(chunk(b"pHYs", b"\0\1")),
        "png garbage profile": before(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(range(90))))),
        "png profile that is not compressed": before(chunk(b"iCCP", b"icc\0\0nonsense")),
        "png profile with a wrong checksum": before(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(99)), checksum=3)),
        "png background of one byte": before(chunk(b"bKGD", b"\1")),
        "png transparency of one byte": before(chunk(b"tRNS", b"\1")),
        "png unknown chunk": before(chunk(b"prVt", bytes(99))),
        "png without its end": plain[:-12],
        "png with data behind": plain + b"more" * 99,
        "png with a wrong checksum of its end": plain[:-1] + b"\0",
    }


def _behind(plain: bytes, extra: bytes) -> bytes:
    return plain[:-12] + extra + plain[-12:]


def _png_modes() -> dict[str, bytes]:
    """Return the picture in the modes of the format."""
    transparent = PICTURE.convert("RGBA")
    transparent.putalpha(Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (16, 1))))
    deep = np.asarray(PICTURE, ">u2") * 257
    palette = PICTURE.quantize(4)
    return {
        "png palette": save(palette, "PNG", transparency=bytes([0, 99, 255, 200])),
        "png grey key": save(PICTURE.convert("L"), "PNG", transparency=int(np.asarray(PICTURE.convert("L"))[0, 0])),
        "png colour key": save(PICTURE, "PNG", transparency=_COLOURS[1]),
        "png alpha": save(transparent, "PNG"),
        "png grey alpha": save(transparent.convert("LA"), "PNG"),
        "png one bit": save(PICTURE.convert("1"), "PNG"),
        "png sixteen bits": _png(32, 16, 2, b"".join(b"\0" + row.tobytes() for row in deep), bits=16),
        "png sixteen bits grey": save(Image.fromarray(np.asarray(PICTURE.convert("L"), np.uint16) * 257), "PNG"),
        "png interlaced": _interlace(),
    }


def _png(
    width: int, height: int, colour_type: int, rows: bytes, *between: bytes, bits: int = 8, lace: int = 0
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, lace)
    return b"".join(
        [_SIGNATURE, chunk(b"IHDR", header), *between, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


def _rows(picture: Image.Image) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in np.asarray(picture))


def _interlace() -> bytes:
    """Return the picture in the seven passes of Adam7 (PNG specification, 8.1)."""
    pixels = np.asarray(PICTURE)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(
        b"\0" + row.tobytes() for y, x, down, across in passes for row in pixels[y::down, x::across] if row.size
    )
    return _png(32, 16, 2, rows, lace=1)


def _animations() -> dict[str, bytes]:
    """Return animations: the still picture is their first frame, or no frame at all."""
    turned = PICTURE.rotate(180)

    def control(number: int, width: int = 32, height: int = 16, x: int = 0, y: int = 0) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, x, y, 1, 1, 0, 0))

    def frame(number: int, picture: Image.Image) -> bytes:
        return chunk(b"fdAT", struct.pack(">I", number) + zlib.compress(_rows(picture)))

    def animate(*parts: bytes, frames: int = 2) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 16, 8, 2, 0, 0, 0))
        body = chunk(b"acTL", struct.pack(">II", frames, 0)) + b"".join(parts)
        return _SIGNATURE + header + body + chunk(b"IEND", b"")

    still = chunk(b"IDAT", zlib.compress(_rows(PICTURE)))
    return {
        "png animation": animate(control(0), still, control(1), frame(2, turned)),
        "png animation with exif": animate(chunk(b"eXIf", exif(6)), control(0), still, control(1), frame(2, turned)),
        "png animation behind a still picture": animate(
            still, control(0), frame(1, turned), control(2), frame(3, PICTURE)
        ),
        "png animation of a part": animate(
            still, control(0, 16, 8, 4, 2), frame(1, turned.crop((0, 0, 16, 8))), control(2), frame(3, PICTURE)
        ),
        "png animation of no frame": animate(still, frames=0),
        "png animation of one frame behind a still picture": animate(still, control(0), frame(1, turned), frames=1),
        "png animation of too few frames": animate(
            still, control(0), frame(1, turned), control(2), frame(3, PICTURE), frames=1
        ),
        "png animation of more frames than a number holds": animate(
            still, control(0), frame(1, turned), frames=2**31 + 1
        ),
    }


def _webps() -> dict[str, bytes]:
    def tag(block: bytes) -> bytes:
        return save(PICTURE, "WEBP", lossless=True, exif=block)

    good = tag(exif(6))
    return {
        "webp": save(PICTURE, "WEBP", lossless=True),
        "webp exif": good,
        "webp exif with a jpeg's prefix": tag(b"Exif\0\0" + exif(6)),
        "webp exif type byte": tag(exif(6, 1)),
        "webp exif type ascii": tag(exif(6, 2)),
        "webp exif type rational": tag(exif(6, 5)),
        "webp exif garbage": tag(bytes(range(80))),
        "webp exif without its flag": good[:20] + bytes([good[20] & ~8]) + good[21:],
        "webp xmp": save(PICTURE, "WEBP", lossless=True, xmp=_XMP),
        "webp garbage profile": save(PICTURE, "WEBP", lossless=True, icc_profile=bytes(range(90))),
        "webp animation": save(PICTURE, "WEBP", lossless=True, save_all=True, append_images=[PICTURE.rotate(180)]),
    }


def _others() -> dict[str, bytes]:
    transparent = PICTURE.convert("RGBA")
    transparent.putpixel((3, 3), (1, 2, 3, 0))
    avif = save(PICTURE, "AVIF", quality=100, subsampling="4:4:4", exif=exif(6))
    options = {"quality": 100, "subsampling": "4:4:4"}
    turn = avif.index(b"irot") + 4
    maker = Image.Exif()
    maker[0x010F] = "a maker"
    made = save(PICTURE, "AVIF", **options, exif=maker)
    block = made.index(maker.tobytes().removeprefix(b"Exif\0\0"))
    return {
        "gif": save(PICTURE, "GIF"),
        "gif animation": save(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(180)]),
        "gif transparent": save(transparent, "GIF"),
        "bmp": save(PICTURE, "BMP"),
        "bmp with alpha": save(transparent, "BMP"),
        "bmp palette": save(PICTURE.quantize(4), "BMP"),
        "ico": save(transparent, "ICO", sizes=[(16, 8), (32, 16)]),
        "ico of bitmaps": save(transparent, "ICO", sizes=[(16, 8), (32, 16)], bitmap_format="bmp"),
        "avif": save(PICTURE, "AVIF", **options),
        "avif turned": avif,
        "avif mirrored": save(PICTURE, "AVIF", **options, exif=exif(5)),
        "avif exif against its turn": avif[:turn] + b"\0" + avif[turn + 1 :],
        "avif exif garbage": made[:block] + b"garbage!" + made[block + 8 :],
        "avif with alpha": save(transparent, "AVIF", **options),
        "avif animation": save(
            PICTURE, "AVIF", **options, save_all=True, append_images=[PICTURE.rotate(180)], range="limited"
        ),
    }
