"""The boxes of HEIC and AVIF: brand, completeness, colour code, hidden metadata."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared import isobmff
from shared.image_codec import decode_photo
from tests.browser.odd_files import PICTURE, save

HEIC = (Path(__file__).parent / "heic" / "turned.heic").read_bytes()
MADE = Image.Exif()
MADE[0x010F] = "a maker"
AVIF = save(PICTURE, "AVIF", exif=MADE)


def box(kind: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + kind + body


@pytest.mark.parametrize(("data", "name"), [
    (HEIC, "HEIF"), (AVIF, "AVIF"),
    (box(b"ftyp", b"mif1\0\0\0\0mif1heic"), "HEIF"),
    (box(b"ftyp", b"mif1\0\0\0\0mif1avif"), "AVIF"),
    (box(b"ftyp", b"isom\0\0\0\0isommp41"), None),
    (b"\x89PNG\r\n\x1a\n", None), (b"", None),
])  # fmt: skip
def test_the_brand_states_the_format(data: bytes, name: str | None) -> None:
    """The first one, or one of those beside it. A film is none."""
    assert isobmff.format_of(data) == name


@pytest.mark.parametrize("data", [HEIC, AVIF])
def test_a_file_that_was_cut_short_is_not_whole(data: bytes) -> None:
    """Its last box is longer than the rest of the file."""
    assert isobmff.is_whole(data)
    assert not isobmff.is_whole(data[:-1])


@pytest.mark.parametrize("data", [HEIC, AVIF])
def test_metadata_is_hidden(data: bytes) -> None:
    """Nothing else changes, not even the length."""
    hidden = isobmff.hide_metadata(data)

    item = data.index(b"Exif", data.index(b"infe"))
    assert hidden == data[:item] + b"skip" + data[item + 4 :]


def test_an_item_with_a_type_that_is_no_text_is_hidden() -> None:
    """pi-heif 1.4 crashes at it, with the whole process."""
    item = HEIC.index(b"Exif", HEIC.index(b"infe"))
    data = HEIC[:item] + b"E\xeaif" + HEIC[item + 4 :]

    assert isobmff.hide_metadata(data) == isobmff.hide_metadata(HEIC)
    assert decode_photo(data).rgb.shape == decode_photo(HEIC).rgb.shape


def test_a_colour_code_is_read() -> None:
    """Of the box `colr`: primaries and transfer."""
    code = (12).to_bytes(2, "big") + (16).to_bytes(2, "big") + bytes(3)
    data = box(b"ftyp", b"heic") + box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"colr", b"nclx" + code))))

    assert isobmff.colour_code(data) == (12, 16)


@given(st.tuples(st.sampled_from([HEIC, AVIF]), st.integers(0, 500), st.binary(max_size=8)))
def test_no_bytes_raise_an_error(damaged: tuple[bytes, int, bytes]) -> None:
    """Whatever lengths the boxes state."""
    data, at, new = damaged
    data = data[:at] + new + data[at + len(new) :]

    isobmff.format_of(data)
    isobmff.is_whole(data)
    isobmff.colour_code(data)

    assert len(isobmff.hide_metadata(data)) == len(data)
