"""Short notes name the parts of a file that are not edited."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared import isobmff, jpeg
from shared.image_codec import decode_photo, probe
from tests.browser.odd_files import PICTURE, save, segment
from tests.unit.shared.deep_files import png

HEIC = Path(__file__).parent / "heic"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
ULTRA_HDR = XMP + b'<x:xmpmeta xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>'
TWO = [PICTURE, PICTURE.rotate(180)]


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + segment(marker, body) + data[2:]


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def animation(kind: str, count: int = 12) -> bytes:
    frames = [Image.new("RGB", (8, 6), (number * 20, 0, 0)) for number in range(count)]
    return save(frames[0], kind, save_all=True, append_images=frames[1:])


PHONE = save(PICTURE, "MPO", save_all=True, append_images=TWO[1:])
PLAIN = save(PICTURE, "JPEG")


@pytest.mark.parametrize(("data", "notes"), [
    (animation("GIF"), ("first of 12 frames",)),
    (animation("PNG"), ("first of 12 frames",)),
    (animation("WEBP"), ("first of 12 frames",)),
    (animation("AVIF"), ("first of 12 frames",)),
    (animation("TIFF", 3), ("first of 3 pages",)),
    (PHONE, ("main one of 2 pictures",)),
    (PHONE + b"HDRGainMap", ("gain map dropped",)),
    (with_segment(PLAIN, 0xE1, ULTRA_HDR), ("gain map dropped",)),
    (with_segment(PHONE, 0xE1, ULTRA_HDR), ("gain map dropped",)),
    (with_segment(PLAIN, 0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"), ("gain map dropped",)),
    ((HEIC / "three-pictures.heic").read_bytes(), ("main one of 3 pictures",)),
    ((HEIC / "ten-bits.heic").read_bytes(), ("10 bits reduced to 8",)),
    (png(np.zeros((3, 4, 3), np.uint16)), ("edited at 8 bits, kept 16 outside",)),
    *((save(PICTURE, kind), ()) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")),
    (save(PICTURE, "ICO", sizes=[(16, 16), (32, 16)]), ()),
    ((HEIC / "plain.heic").read_bytes(), ()),
])  # fmt: skip
def test_what_is_left_out_has_a_note(data: bytes, notes: tuple[str, ...]) -> None:
    """The answer to an upload and the decoder of the edit agree."""
    assert probe(data).notes == notes
    assert decode_photo(data, with_alpha=True, with_depth=True).notes == notes


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_the_first_frame_is_read(kind: str) -> None:
    """Counting the others does not move the reader on."""
    assert decode_photo(animation(kind)).rgb.max() <= 2


def test_what_is_broken_behind_the_first_frame_costs_nothing() -> None:
    """The picture is read as before, without a note."""
    data = bytearray(animation("TIFF", 3))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, len(data) - 3)

    assert decode_photo(bytes(data)).rgb.shape == (6, 8, 3)


@pytest.mark.parametrize(
    "block", [b"", b"MPF\0", b"MPF\0II*\0", b"MPF\0II*\0\xff\xff\xff\xff", b"MPF\0II*\0\x08\0\0\0\xff\xff"]
)
def test_a_broken_list_of_pictures_counts_as_none(block: bytes) -> None:
    """Metadata never cost the pixels."""
    assert jpeg.count_pictures(with_segment(PLAIN, 0xE2, block)) == 1


@pytest.mark.parametrize(("boxes", "found"), [
    (box(b"iinf", b"\0" * 4 + b"\0\1" + box(b"infe", b"\2\0\0\0\0\3\0\0tmap\0")), True),
    (box(b"iinf", b"\0" * 4 + b"\0\1" + box(b"infe", b"\2\0\0\0\0\3\0\0hvc1\0")), False),
    (box(b"iprp", box(b"ipco", box(b"auxC", b"\0" * 4 + b"urn:com:apple:photo:2020:aux:hdrgainmap\0"))), True),
    (box(b"iprp", box(b"ipco", box(b"auxC", b"\0" * 4 + b"urn:mpeg:hevc:2015:auxid:1\0"))), False),
])  # fmt: skip
def test_a_gain_map_of_a_heic_is_found(boxes: bytes, *, found: bool) -> None:
    """An item of ISO 21496-1, or an auxiliary picture of Apple's; transparency is none."""
    assert isobmff.has_gain_map(box(b"ftyp", b"heic\0\0\0\0heic") + box(b"meta", b"\0" * 4 + boxes)) == found


@pytest.mark.parametrize(("flags", "bits"), [(0x0C, 8), (0x4C, 10), (0x6C, 12)])
def test_an_avif_states_its_bits(flags: int, bits: int) -> None:
    """In the configuration of its decoder."""
    data = box(b"ftyp", b"avif\0\0\0\0avif")
    config = box(b"av1C", bytes([0x81, 0, flags, 0]))

    assert isobmff.bits(data + box(b"meta", b"\0" * 4 + box(b"iprp", box(b"ipco", config)))) == bits
