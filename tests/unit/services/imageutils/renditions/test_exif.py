"""EXIF data for an edited picture: the tags that stay, the tags that go, and broken data."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.imageutils.renditions.exif import LONGEST_BYTES, Exif, Value, prepare, read_exif, write_exif
from tests.phone_photo import MAKER, UNEDITED, exif_block, unedited_jpeg

CAMERA, PLACE, NOTE, ORIENTATION = 0x8769, 0x8825, 0x927C, 0x0112
APPLE = b"Apple iOS\0\0\1MM\0\1" + bytes(20)


def written(block: bytes, *, place: bool = True, thumbnail: bytes = b"") -> tuple[Image.Exif, bytes]:
    """Return the tags of an upright picture of 300 x 200 px with these EXIF data, as Pillow reads them."""
    made = write_exif(prepare(read_exif(block), (300, 200), place=place, turned=False), thumbnail)
    exif = Image.Exif()
    exif.load(made)
    return exif, made


@pytest.mark.parametrize("order", ["<", ">"])
def test_camera_data_stay(order: str) -> None:
    """The data have the upload's byte order, the upright size of the picture, and contain no other picture."""
    exif, block = written(exif_block(6, order, thumbnail=unedited_jpeg()))

    camera = exif.get_ifd(CAMERA)
    assert block[:2] == (b"II" if order == "<" else b"MM")
    assert (exif[0x010F], exif[ORIENTATION]) == (MAKER, 1)
    assert (camera[0xA002], camera[0xA003]) == (300, 200)
    assert exif.get_ifd(PLACE)[4] == (11.0, 34.0, 0.0)
    assert NOTE not in camera
    assert UNEDITED not in block
    assert b"\xff\xd8\xff" not in block


@pytest.mark.parametrize(("note", "kept"), [
    (APPLE, True), (APPLE + unedited_jpeg(), False), (b"Canon" + bytes(40), False), (b"", False),
])  # fmt: skip
def test_a_maker_note_stays_if_it_can_hold_no_preview(note: bytes, kept: bool) -> None:  # noqa: FBT001
    """Only Apple's is known to be independent of its place. It goes with the place."""
    exif = Exif(">", camera={NOTE: Value(7, len(note), note)} if note else {}, main={0x010F: Value(2, 2, b"x\0")})
    block = write_exif(exif)

    assert (NOTE in written(block)[0].get_ifd(CAMERA)) is kept
    assert NOTE not in written(block, place=False)[0].get_ifd(CAMERA)


def test_the_place_goes() -> None:
    """With its directory."""
    exif, _ = written(exif_block(1), place=False)

    assert PLACE not in exif
    assert exif[0x010F] == MAKER


def test_the_thumbnail_can_be_renewed() -> None:
    """It is the first picture of the second directory."""
    new = unedited_jpeg(8)

    _, block = written(exif_block(1, thumbnail=unedited_jpeg()), thumbnail=new)

    assert block.count(b"\xff\xd8\xff") == 1
    assert block.endswith(new)
    with Image.open(io.BytesIO(block[block.index(b"\xff\xd8\xff") :])) as thumbnail:
        assert thumbnail.size == (8, 8)


def test_long_data_are_cut_to_a_segment() -> None:
    """The longest values go first, and the thumbnail before them."""
    exif = Exif(
        main={0x010F: Value(2, 6, b"maker\0"), 0x010E: Value(2, 50_000, b"d" * 50_000)},
        camera={0x9286: Value(7, 40_000, b"c" * 40_000)},
    )

    block = write_exif(exif, b"\xff\xd8\xff" + bytes(60_000))

    assert len(block) <= LONGEST_BYTES
    assert b"maker" in block
    assert b"c" * 40_000 in block
    assert b"ddd" not in block


@pytest.mark.parametrize("name", ["itself", "count", "offset", "length", "cut"])
def test_broken_data_are_left_out(name: str) -> None:
    """A directory that names itself, too many tags, values outside of the data: the rest is kept."""
    block = bytearray(exif_block(6, "<"))
    (first,) = struct.unpack_from("<I", block, 4)
    if name == "itself":
        block += struct.pack("<H", 1) + struct.pack("<HHII", CAMERA, 4, 1, first) + struct.pack("<I", first)
        struct.pack_into("<I", block, 4, len(block) - 18)
    elif name == "count":
        struct.pack_into("<H", block, first, 65_535)
    elif name == "offset":
        struct.pack_into("<I", block, first + 2 + 8, 0xFFFFFFF0)
    elif name == "length":
        struct.pack_into("<I", block, first + 2 + 4, 0x7FFFFFFF)
    else:
        del block[first + 20 :]

    exif = read_exif(bytes(block))

    assert len(write_exif(exif)) <= LONGEST_BYTES
    assert name in {"itself", "cut"} or exif.main


@given(st.binary(max_size=300), st.sampled_from([b"II*\0", b"MM\0*", b""]))
def test_no_data_fail(data: bytes, start: bytes) -> None:
    """From any bytes, the written block can be read and gives the same values again."""
    exif = prepare(read_exif(start + data), (3, 2), place=True, turned=True)
    block = write_exif(exif)

    again = read_exif(block)
    assert again.main == exif.main
    assert again.place == exif.place


@given(st.data())
def test_no_damage_fails(data: st.DataObject) -> None:
    """Bytes of real data are changed anywhere."""
    block = bytearray(exif_block(6, ">", thumbnail=unedited_jpeg(8)))
    for _ in range(data.draw(st.integers(1, 6))):
        block[data.draw(st.integers(8, len(block) - 1))] = data.draw(st.integers(0, 255))

    made = write_exif(prepare(read_exif(bytes(block)), (3, 2), place=False, turned=True))

    assert len(made) <= LONGEST_BYTES
    assert UNEDITED not in made


def test_values_that_share_their_bytes_are_bounded() -> None:
    """One segment of a JPEG can name the same 50 kB a thousand times: 50 MB, written a thousand times."""
    count, length = 1000, 50_000
    start = 26 + 2 + 12 * count + 4
    main = struct.pack("<HHHII", 1, CAMERA, 4, 1, 26) + bytes(4)
    tags = b"".join(struct.pack("<HHII", 0xA000 + number, 7, length, start) for number in range(6, 6 + count))
    block = b"II*\0" + struct.pack("<I", 8) + main + struct.pack("<H", count) + tags + bytes(4 + length)

    exif = read_exif(block)

    assert exif.camera == {}
    assert len(write_exif(exif)) <= LONGEST_BYTES


def test_a_value_that_covers_other_bytes_is_left_out() -> None:
    """A damaged count makes a density of 22 fractions, which would carry a part of the thumbnail along."""
    block = bytearray(exif_block(6, ">", thumbnail=unedited_jpeg(8)))
    block[256], block[53] = 0, 22

    exif = prepare(read_exif(bytes(block)), (3, 2), place=False, turned=True)

    assert exif.main
    assert UNEDITED not in write_exif(exif)


def test_two_tags_may_share_one_number() -> None:
    """Some writers store the density once for both directions."""
    entries = b"".join(struct.pack("<HHII", tag, 5, 1, 38) for tag in (0x011A, 0x011B))
    block = b"II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4) + struct.pack("<II", 72, 1)

    assert read_exif(block).density() == (72.0, 72.0)
