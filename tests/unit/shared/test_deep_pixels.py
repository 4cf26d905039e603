"""Pictures with 16 bits a channel keep them, and every decoder sees the same 8 bits of them."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from shared import deep_pixels
from shared.deep_pixels import KEPT, REDUCED, TOO_LARGE
from shared.errors import BadImage
from shared.image_codec import decode_mask, decode_photo, encode_png, mask_is_empty, probe
from shared.image_source import open_source
from tests.browser.coloured_files import grey_profile
from tests.unit.shared.deep_files import chunk, png, read_png, tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANDOM = np.random.default_rng(16)
PIXELS = {channels: RANDOM.integers(0, 65536, (13, 17, channels)).astype(np.uint16) for channels in (1, 2, 3, 4)}
TURNED = {
    1: lambda upright: upright, 2: np.fliplr, 3: lambda upright: np.rot90(upright, 2), 4: np.flipud,
    5: lambda upright: np.swapaxes(upright, 0, 1), 6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(np.swapaxes(upright, 0, 1), 2), 8: lambda upright: np.rot90(upright, -1),
}  # fmt: skip


def deep_of(data: bytes) -> NDArray[np.uint16]:
    photo = decode_photo(data, with_alpha=True, with_depth=True)
    assert photo.deep is not None, photo.notes
    assert photo.deep is photo.pixels
    assert KEPT in photo.notes
    return photo.deep


def as_result(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the pixels as RGB or RGBA."""
    return pixels[..., {1: [0, 0, 0], 2: [0, 0, 0, 1], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[pixels.shape[2]]]


@pytest.mark.parametrize("channels", PIXELS)
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_keeps_every_bit(channels: int, *, interlaced: bool) -> None:
    """Grey, RGB, each with and without transparency; also in the seven passes of Adam7."""
    data = png(PIXELS[channels], interlaced=interlaced)

    assert np.array_equal(deep_of(data), as_result(PIXELS[channels]))
    assert probe(data).notes == (KEPT,)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_keeps_every_bit(channels: int, order: str) -> None:
    """In both orders of bytes."""
    data = tiff(PIXELS[channels], order=order)

    assert np.array_equal(deep_of(data), as_result(PIXELS[channels]))
    assert probe(data).notes == (KEPT,)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("scheme", [1, 5, 8, 32773])
def test_a_compressed_tiff_keeps_every_bit(channels: int, scheme: int) -> None:
    """Without compression, LZW, Deflate, PackBits (TIFF 6.0 and Adobe's supplement)."""
    bgr = PIXELS[channels] if channels == 1 else PIXELS[channels][..., [2, 1, 0, 3][:channels]]
    packed, data = cv2.imencode(".tiff", bgr, [cv2.IMWRITE_TIFF_COMPRESSION, scheme])

    assert packed
    assert np.array_equal(deep_of(bytes(data)), as_result(PIXELS[channels]))


@pytest.mark.parametrize("scheme", ["lzma", "zstd", "tiff_adobe_deflate", "tiff_lzw"])
def test_a_tiff_of_any_compression_is_read(scheme: str) -> None:
    """With all 16 bits where OpenCV knows it, else with 8 and a note."""
    file, grey = io.BytesIO(), PIXELS[1][..., 0]
    Image.fromarray(grey).save(file, "TIFF", compression=scheme)

    photo = decode_photo(file.getvalue(), with_alpha=True, with_depth=True)

    assert np.array_equal(photo.rgb[..., 0], grey // 257)
    if photo.deep is None:
        assert photo.notes == (REDUCED,)
    else:
        assert np.array_equal(photo.deep[..., 0], grey)


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_it_stands_upright(orientation: int, channels: int, kind: str) -> None:
    """Whichever way the camera was held; the 8 bits too."""
    stored = np.ascontiguousarray(TURNED[orientation](PIXELS[channels]))
    exif = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    data = png(stored, chunk(b"eXIf", exif)) if kind == "PNG" else tiff(stored, orientation=orientation)

    assert np.array_equal(deep_of(data), as_result(PIXELS[channels]))
    assert decode_photo(data).rgb.shape == (13, 17, 3)


@pytest.mark.parametrize("channels", PIXELS)
def test_the_eight_bits_are_those_of_every_other_reader(channels: int) -> None:
    """The upper byte of colours, and 65,536 steps of grey in 257s; with and without the 16 bits."""
    data = png(PIXELS[channels])
    deep, plain = decode_photo(data, with_alpha=True, with_depth=True), decode_photo(data, with_alpha=True)
    expected = PIXELS[channels] // 257 if channels == 1 else PIXELS[channels] >> 8

    assert np.array_equal(deep.rgb, plain.rgb)
    assert np.array_equal(plain.rgb if plain.rgba is None else plain.rgba, as_result(expected.astype(np.uint16)))
    assert plain.deep is None


@pytest.mark.parametrize("channels", [1, 3])
def test_a_colour_that_means_nothing_is_transparent(channels: int) -> None:
    """The key of a chunk tRNS has 16 bits: a colour that differs in the last one is another. Masks see it too."""
    pixels = PIXELS[channels].copy()
    pixels[0, 0], pixels[0, 1] = 0xFF34, 0xFF35
    data = png(pixels, chunk(b"tRNS", struct.pack(f">{channels}H", *[0xFF34] * channels)))

    deep = deep_of(data)

    assert deep[0, :2, 3].tolist() == [0, 65535]
    assert np.array_equal(deep[..., :3], as_result(pixels))
    assert decode_photo(data).rgb[0, 0].tolist() == [255] * 3
    assert decode_mask(data)[0, 0] == 0
    assert decode_mask(data)[0, 1] > 250


def test_an_opaque_picture_has_three_channels() -> None:
    """Programs write opacity where there is no transparency."""
    pixels = PIXELS[4].copy()
    pixels[..., 3] = 65535

    assert deep_of(png(pixels)).shape == (13, 17, 3)
    assert deep_of(tiff(PIXELS[4], extra=0)).shape == (13, 17, 3), "the fourth channel of this TIFF means nothing"


@pytest.mark.parametrize("space", ["RGB", "GRAY", "none"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_profile_is_treated_as_with_eight_bits(space: str, channels: int) -> None:
    """One of a display stays, a grey one is converted to sRGB, one that does not fit is dropped."""
    display = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = {"RGB": display, "GRAY": grey_profile(), "none": None}[space]
    shallow = Image.fromarray((PIXELS[channels] >> 8).astype(np.uint8).squeeze(), {1: "L", 2: "LA", 3: "RGB"}[channels])
    file = io.BytesIO()
    shallow.save(file, "PNG", **({} if profile is None else {"icc_profile": profile}))
    at = file.getvalue()
    start = at.find(b"iCCP") - 4
    between = [] if profile is None else [at[start : start + 12 + int.from_bytes(at[start : start + 4], "big")]]
    wide = ((PIXELS[channels] >> 8) * 257).astype(np.uint16)

    narrow = decode_photo(at, with_alpha=True)
    photo = decode_photo(png(wide, *between), with_alpha=True, with_depth=True)

    assert photo.colour == narrow.colour
    assert np.array_equal(photo.rgb, narrow.rgb)
    assert photo.deep is not None
    assert np.abs(photo.deep[..., :3].astype(int) - narrow.pixels[..., :3].astype(int) * 257).max() < 257
    if space == "GRAY" and channels < 3:
        assert len(np.unique(deep_of(png(PIXELS[channels], *between))[..., 0])) > 180, "the steps between stay"


@pytest.mark.parametrize("chunks", [
    [(b"gAMA", struct.pack(">I", 100_000))], [(b"cICP", bytes([12, 13, 0, 1]))], [(b"sRGB", b"\0")],
    [(b"gAMA", struct.pack(">I", 45_455)),
     (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))],
], ids=["gAMA", "cICP", "sRGB", "cHRM"])  # fmt: skip
def test_chunks_of_colour_are_in_the_result(chunks: list[tuple[bytes, bytes]]) -> None:
    """Bit for bit, as with 8 bits."""
    photo = decode_photo(png(PIXELS[3], *(chunk(*one) for one in chunks)), with_depth=True)

    result = encode_png(photo.pixels, photo.colour)

    assert all(chunk(*one) in result for one in chunks)
    assert np.array_equal(read_png(result), PIXELS[3])


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("rows", [1, 64, 65, 700])
def test_what_is_written_is_read_by_others(channels: int, rows: int) -> None:
    """By a reader of our own, and by OpenCV; in one band and in several."""
    pixels = RANDOM.integers(0, 65536, (rows, 3000 if rows == 700 else 9, channels)).astype(np.uint16)
    data = encode_png(pixels)
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)

    assert theirs is not None
    assert np.array_equal(read_png(data), pixels)
    assert np.array_equal(theirs[..., [2, 1, 0, 3][:channels]], pixels)
    assert np.array_equal(decode_photo(data, with_alpha=True, with_depth=True).pixels, pixels)


def test_the_first_frame_of_an_animation_lies_on_its_canvas() -> None:
    """A still picture that is no frame is for programs without animation."""
    frame, still = PIXELS[3], np.full((30, 40, 3), 7, np.uint16)
    control = struct.pack(">IIIIIHHBB", 0, 17, 13, 5, 6, 1, 10, 0, 0)
    whole = png(still, chunk(b"acTL", struct.pack(">II", 2, 0)))
    inner = png(frame)
    at = inner.index(b"IDAT")
    (length,) = struct.unpack(">I", inner[at - 4 : at])
    moving = chunk(b"fcTL", control) + chunk(b"fdAT", b"\0\0\0\1" + inner[at + 4 : at + 4 + length])
    moving += chunk(b"fcTL", b"\0\0\0\2" + control[4:])
    end = whole.index(b"IEND") - 4
    data = whole[:end] + moving + whole[end:]

    deep = deep_of(data)

    assert deep.shape == (30, 40, 4)
    assert np.array_equal(deep[6:19, 5:22, :3], frame)
    assert np.count_nonzero(deep[..., 3]) == 13 * 17
    assert "first of 2 frames" in probe(data).notes


@pytest.mark.parametrize(("data", "note"), [
    (tiff(PIXELS[4], extra=1), REDUCED),
    (tiff(PIXELS[4]), KEPT),
], ids=["multiplied", "plain"])  # fmt: skip
def test_what_cannot_be_kept_has_a_note(data: bytes, note: str) -> None:
    """Colours that are multiplied by their opacity are divided at 8 bits."""
    photo = decode_photo(data, with_alpha=True, with_depth=True)

    assert photo.notes == (note,)
    assert (photo.deep is None) == (note == REDUCED)


@pytest.mark.parametrize(("height", "note"), [(4096, KEPT), (4097, TOO_LARGE)])
def test_above_32_megapixels_a_picture_is_read_with_eight_bits(height: int, note: str) -> None:
    """The header decides, for the answer to an upload as for the edit."""
    with open_source(png(np.zeros((height, 8192, 1), np.uint16))) as source:
        assert deep_pixels.note_of(source) == note
        assert deep_pixels.is_kept(source) == (note == KEPT)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_damaged_file_is_refused(channels: int) -> None:
    """A file that ends early, and one with other bytes in its pixels."""
    data = png(RANDOM.integers(0, 65536, (80, 90, channels)).astype(np.uint16))
    at = data.index(b"IDAT") + 900
    packed = bytearray(data)
    packed[at] ^= 0x55

    for broken in (data[: len(data) // 2], bytes(packed)):
        with pytest.raises(BadImage):
            decode_photo(broken, with_depth=True)


def test_white_may_be_zero() -> None:
    """Scanners of film and text write it so; both depths are turned round."""
    pixels = np.array([[[0], [255], [257], [65535]]], np.uint16)

    photo = decode_photo(tiff(pixels, photometric=0), with_depth=True)

    assert photo.rgb[0, :, 0].tolist() == [255, 254, 254, 0]
    assert photo.deep is not None
    assert photo.deep[0, :, 0].tolist() == [65535, 65280, 65278, 0]


# --- 32 bits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "kind", "values", "expected"), [
    (32, 3, [0.0, 0.25, 1.0], [0, 63, 255]),
    (32, 3, [0.2, 0.5, 0.8], [51, 127, 204]),
    (32, 3, [-4.0, 0.0, 4.0], [0, 127, 255]),
    (32, 3, [0.0, 128.0, 255.0], [0, 128, 255]),
    (32, 3, [0.0, 5e8, 1e9], [0, 127, 255]),
    (32, 2, [0, 50_000, 100_000], [0, 127, 255]),
    (32, 2, [-100, 0, 100], [0, 127, 255]),
    (16, 2, [-32_768, 0, 32_767], [0, 127, 255]),
    (32, 1, [0, 1000, 2000], [0, 127, 255]),
    (32, 1, [0, 2**31, 2**32 - 1], [0, 127, 255]),
])  # fmt: skip
def test_numbers_of_a_scanner_are_scaled(bits: int, kind: int, values: list[float], expected: list[int]) -> None:
    """Fractions from 0 to 1 by that range, all others by the lowest and the highest value; none comes out black."""
    data = tiff(np.array([values])[..., None], bits=bits, kind=kind)

    assert decode_photo(data).rgb[0, :, 0].tolist() == expected
    assert decode_mask(data)[0].tolist() == expected
    assert not mask_is_empty(data)


def test_white_may_be_zero_in_fractions_too() -> None:
    """As in 16 bits."""
    data = tiff(np.array([[[0.0], [0.25], [1.0]]]), bits=32, kind=3, photometric=0)

    assert decode_photo(data).rgb[0, :, 0].tolist() == [255, 191, 0]


def test_a_plain_picture_of_numbers_is_read() -> None:
    """It has no range."""
    assert decode_photo(tiff(np.full((2, 2, 1), 7.0), bits=32, kind=3)).rgb.max() == 0


@pytest.mark.parametrize(("data", "why"), [
    (tiff(np.array([[[np.inf], [0.0]]]), bits=32, kind=3), "not finite numbers"),
    (tiff(np.array([[[np.nan], [0.0]]]), bits=32, kind=3), "not finite numbers"),
    (tiff(np.array([[[0.0], [np.nan]]] * 70), bits=32, kind=3), "not finite numbers"),
    (tiff(np.zeros((3, 4, 3)), bits=32, kind=3), "8 or 16 bits a channel as grey, RGB or RGBA"),
    (tiff(np.zeros((3, 4, 3)), bits=32, kind=1), "8 or 16 bits a channel as grey, RGB or RGBA"),
    (tiff(np.zeros((3, 4, 1)), bits=64, kind=3), "8 or 16 bits a channel as grey, RGB or RGBA"),
    (tiff(PIXELS[2]), "8 or 16 bits a channel as grey, RGB or RGBA"),
    (tiff(PIXELS[3], planes=True), "16 bits a channel in separate planes"),
], ids=["infinite", "nan", "late nan", "float colours", "wide", "double", "grey, alpha", "planes"])  # fmt: skip
def test_what_is_not_read_is_refused_with_a_way_out(data: bytes, why: str) -> None:
    """The error text names the right kind of file, at the upload and in the job."""
    for reader in (probe, decode_photo, decode_mask):
        with pytest.raises(BadImage, match=why):
            reader(data)


KEYS = (0, 255, 256, 33023, 33024, 33153, 33279, 65280, 65535)


@given(
    values=st.lists(st.sampled_from(KEYS), min_size=1, max_size=3),
    key=st.none() | st.sampled_from(KEYS),
    channels=st.sampled_from([1, 3]),
)
def test_a_colour_key_hides_no_mask(values: list[int], key: int | None, channels: int) -> None:
    """Pillow compares it with pixels of eight bits. Grey is judged as the worker's decoder judges it."""
    pixels = np.array([[[value] * channels for value in values]], np.uint16)
    keys = [] if key is None else [chunk(b"tRNS", key.to_bytes(2, "big") * channels)]
    data = png(pixels, *keys)
    is_empty = int(decode_mask(data).max()) <= 128

    assert mask_is_empty(data) == is_empty if channels == 1 else mask_is_empty(data) <= is_empty
