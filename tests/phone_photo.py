"""Photos as telephones and cameras write them: with GPS, a profile, captions, and other pictures in many places."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from shared import icc

SIZE = (96, 64)
"""Width and height of the upright photo, in pixels."""
UNEDITED = b"UNEDITED PICTURE"
"""A comment in each picture that must not come along."""
P3 = icc.build_profile(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), icc.D65, lambda value: value**2.2)
CAPTION, CREATOR, MAKER = "A caption of the photographer", "Some One", "A maker"
_TURNED_BACK = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180}
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"
 xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/"
 tiff:Orientation="6" exif:GPSLatitude="48,8.25N" drone-dji:GpsLongtitude="+11.5" xmp:Rating="4"
 xmpNote:HasExtendedXMP="0123456789ABCDEF0123456789ABCDEF">
<xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType="Resource"><xmpGImg:image>{UNEDITED.decode()}</xmpGImg:image></rdf:li>
</rdf:Alt></xmp:Thumbnails><dc:creator><rdf:Seq><rdf:li>{CREATOR}</rdf:li></rdf:Seq></dc:creator></rdf:Description>
</rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()


def scene(size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a picture with soft colours and no symmetry."""
    noise = np.random.default_rng(7).integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), np.uint8)
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    return picture.filter(ImageFilter.GaussianBlur(1))


def unedited_jpeg(side: int = 32) -> bytes:
    """Return a small picture that stands for the unedited photo."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, "JPEG", comment=UNEDITED)
    return file.getvalue()


def phone_jpeg(orientation: int = 6, size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    """Return a JPEG with two pictures and everything that a telephone writes; `size` is that of the upright photo."""
    upright = scene(size)
    stored = upright.transpose(_TURNED_BACK[orientation]) if orientation in _TURNED_BACK else upright
    file = io.BytesIO()
    second = Image.new("RGB", (64, 64), "red")
    chosen = {"quality": 88, "subsampling": 1, "icc_profile": P3, "dpi": (72, 96), **options}
    stored.save(file, "MPO", save_all=True, append_images=[second], **chosen)
    plain = file.getvalue()
    start = 4 + int.from_bytes(plain[4:6], "big")
    extended = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", 100, 0) + UNEDITED
    segments = [
        segment(0xE1, b"Exif\0\0" + exif_block(orientation, thumbnail=unedited_jpeg())),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        segment(0xE1, extended),
        segment(0xED, photoshop_resources()),
    ]
    return plain[:start] + b"".join(segments) + plain[start:] + b"a trailer " + UNEDITED + unedited_jpeg()


def sample(kind: str) -> bytes:
    """Return a photo in a format that is not written here: heic, gif or ico."""
    if kind == "heic":
        return (Path(__file__).parent / "unit/shared/heic/turned.heic").read_bytes()
    file = io.BytesIO()
    scene((48, 48)).save(file, kind.upper(), **({"sizes": [(48, 48)]} if kind == "ico" else {}))
    return file.getvalue()


def exif_block(orientation: int, order: str = ">", thumbnail: bytes = b"") -> bytes:
    """Return EXIF data with GPS, a maker note that holds a preview, and a thumbnail."""
    exif = Image.Exif()
    exif.endian = order
    exif._loaded = True  # noqa: SLF001 (or Pillow reads the orientation of a file that is not there)
    exif[0x010F], exif[0x0112], exif[0x0132] = MAKER, orientation, "2026:05:04 03:02:01"
    exif[0x011A], exif[0x011B], exif[0x0128] = 72.0, 96.0, 2
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x9003: "2026:05:04 03:02:01", 0x927C: b"Preview\0" + unedited_jpeg(),
                                 0xA002: 64, 0xA003: 96})  # fmt: skip
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 15.0), 3: "E", 4: (11.0, 34.0, 0.0)})
    block = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    if not thumbnail:
        return bytes(block)
    (first,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, first)
    at = len(block)
    struct.pack_into(f"{order}I", block, first + 2 + 12 * count, at)
    entries = [(0x0103, 3, 1, 6 << 16 if order == ">" else 6), (0x0201, 4, 1, at + 42), (0x0202, 4, 1, len(thumbnail))]
    block += struct.pack(f"{order}H", 3) + b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries) + bytes(4)
    return bytes(block) + thumbnail


def photoshop_resources() -> bytes:
    """Return captions, a thumbnail in two resources, a copyright flag, and a preview within the captions."""
    captions = iptc_dataset(2, 120, CAPTION.encode()) + iptc_dataset(2, 202, unedited_jpeg())
    thumb = struct.pack(">IIIIIIHH", 1, 32, 32, 96, 3072, 800, 24, 1) + unedited_jpeg()
    blocks = [(0x0404, captions), (0x0409, thumb), (0x040C, thumb), (0x040A, b"\1"), (0x0FA0, unedited_jpeg())]
    return b"Photoshop 3.0\0" + b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(body)) + body + bytes(len(body) % 2) for number, body in blocks
    )


def iptc_dataset(record: int, number: int, content: bytes) -> bytes:
    """Return a dataset with at most 32,767 bytes of content (IPTC-IIM 4.2)."""
    return struct.pack(">BBBH", 0x1C, record, number, len(content)) + content


def segment(marker: int, body: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
