"""The codec: every format and mode becomes upright 8-bit RGB or grey; too large and broken files are refused."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from shared.colour import SRGB
from shared.errors import BadImage, TooLarge
from shared.image_codec import ImageInfo, decode_mask, decode_photo, encode_jpeg, encode_png, mask_is_empty, probe
from shared.image_formats import CONTENT_TYPES, FORMATS, MAX_SIDE_PX

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SAMPLES = Path(__file__).parents[3] / "services/gateway/static/samples"
CAT = Image.open(SAMPLES / "cat.jpg")
SMALL = CAT.resize((31, 24))
EXIF_ORIENTATION = 0x0112
READERS = (probe, decode_photo, decode_mask, mask_is_empty)
WRITTEN = tuple(name for name in FORMATS if name != "HEIF")  # Pillow writes no HEIC
LOSSY = {"JPEG", "GIF", "AVIF"}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def save(picture: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    """Return the bytes of a file."""
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, colour_type: int, rows: bytes, *between: bytes, bits: int = 8) -> bytes:
    """Return a hand-made PNG; `rows` are the raw rows with their filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *between, chunk(b"IDAT", zlib.compress(rows)),
         chunk(b"IEND", b"")]
    )  # fmt: skip


def same(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bool:
    return left.dtype == right.dtype == np.uint8 and np.array_equal(left, right)


# --- formats and modes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", [name for name in WRITTEN if name not in LOSSY])
def test_a_photo_comes_out_as_it_went_in(file_format: str) -> None:
    """Formats without loss give back every pixel."""
    options = {"lossless": True} if file_format == "WEBP" else {"sizes": [SMALL.size]}  # the second is of ICO
    data = save(SMALL, file_format, **options)

    assert same(decode_photo(data).rgb, np.array(SMALL))
    assert probe(data) == ImageInfo(31, 24, CONTENT_TYPES[file_format])


@pytest.mark.parametrize("file_format", sorted(LOSSY))
def test_a_photo_comes_out_about_as_it_went_in(file_format: str) -> None:
    """Lossy formats give the same pixels as Pillow."""
    data = save(SMALL, file_format)

    assert same(decode_photo(data).rgb, np.array(Image.open(io.BytesIO(data)).convert("RGB")))
    assert probe(data) == ImageInfo(31, 24, f"image/{file_format.lower()}")


@pytest.mark.parametrize(("mode", "file_format"), [
    ("L", "PNG"), ("1", "PNG"), ("P", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF"),
    ("YCbCr", "TIFF"), ("P", "GIF"), ("P", "BMP"), ("1", "TIFF"),
])  # fmt: skip
def test_every_mode_becomes_rgb(mode: str, file_format: str) -> None:
    """The pixels are the same for every stored mode."""
    data = save(SMALL.convert(mode), file_format)

    expected = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    assert same(decode_photo(data).rgb, expected)
    assert abs(expected.mean() - np.array(SMALL).mean()) < 10, "the picture is about as bright"


def test_sixteen_bits_are_scaled_to_eight() -> None:
    """The full range stays the full range; each 8-bit value comes back from its 16-bit equivalent."""
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    data = save(Image.fromarray(ramp * 257))

    assert same(decode_photo(data).rgb[..., 0], ramp.astype(np.uint8))
    assert same(decode_mask(data), ramp.astype(np.uint8))


def test_sixteen_bits_a_channel_are_scaled_to_eight() -> None:
    """Colour with 16 bits keeps its upper byte."""
    data = png(
        1, 2, 2, b"\0" + struct.pack(">3H", 0xFFFF, 0x8000, 0) + b"\0" + struct.pack(">3H", 1, 2, 0x1234), bits=16
    )

    assert decode_photo(data).rgb.tolist() == [[[255, 128, 0]], [[0, 0, 0x12]]]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_of_a_scanner_are_read(kind: type[np.generic]) -> None:
    """TIFFs with floats (0 to 255) or wide integers (16 bits used) are greyscale photos."""
    scale = 257 if kind is np.int32 else 1
    data = save(Image.fromarray((np.arange(256).reshape(16, 16) * scale).astype(kind)), "TIFF")

    assert same(decode_photo(data).rgb[..., 1], np.arange(256, dtype=np.uint8).reshape(16, 16))


def test_a_telephones_two_pictures_are_one_jpeg() -> None:
    """MPO is a JPEG with more behind it; browsers know it by no other name."""
    data = save(SMALL, "MPO", save_all=True, append_images=[SMALL.rotate(180)])

    assert probe(data).content_type == "image/jpeg"
    assert same(decode_photo(data).rgb, np.array(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_many_frames_the_first_is_taken(file_format: str) -> None:
    """An animation is the picture that it starts with."""
    frames = [Image.new("RGB", (8, 6), (number * 6, 0, 0)) for number in range(40)]
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = save(frames[0], file_format, save_all=True, append_images=frames[1:], **options)

    pages = "pages" if file_format == "TIFF" else "frames"
    assert probe(data) == ImageInfo(8, 6, f"image/{file_format.lower()}", (f"first of 40 {pages}",))
    assert same(decode_photo(data).rgb, np.zeros((6, 8, 3), np.uint8))


# --- orientation --------------------------------------------------------------------------------------------------

TURNED: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: np.swapaxes(upright, 0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(np.swapaxes(upright, 0, 1), 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_pictures_stand_upright(orientation: int, file_format: str) -> None:
    """Whichever way the camera was held (EXIF 2.32, tag 274), also for masks, and the header agrees."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNED[orientation](np.array(SMALL))))
    data = save(stored, file_format, exif=exif)

    assert same(decode_photo(data).rgb, np.array(SMALL))
    assert decode_mask(data).shape == (24, 31)
    assert (probe(data).width, probe(data).height) == (31, 24)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("file_format", ["JPEG", "AVIF"])
def test_the_header_states_the_upright_size(orientation: int, file_format: str) -> None:
    """A portrait is a portrait before anything is decoded."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    data = save(SMALL, file_format, exif=exif)

    assert (probe(data).width, probe(data).height) == (24, 31)
    assert decode_photo(data).rgb.shape == (31, 24, 3)


# --- transparency -------------------------------------------------------------------------------------------------


def test_a_photos_transparency_lies_on_white() -> None:
    """All of it at alpha 0, half of it at alpha 128, none of it at 255."""
    pixels = np.array([[[10, 20, 30, 0], [0, 0, 0, 128], [10, 20, 30, 255]]], np.uint8)

    shown = decode_photo(save(Image.fromarray(pixels))).rgb

    assert shown.tolist() == [[[255, 255, 255], [127, 127, 127], [10, 20, 30]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB", "CMYK", "I;16"])
def test_a_photo_of_several_bands_is_decoded_as_one(mode: str) -> None:
    """A photo of over a million pixels is converted band by band: every row is the same as in a small photo."""
    row = Image.fromarray(np.random.default_rng(3).integers(0, 256, (1, 1500, 4), np.uint8), "RGBA")
    row = row.convert("L").convert("I;16") if mode == "I;16" else row.convert(mode)
    tall = Image.new(mode, (1500, 1400))
    for top in range(tall.height):
        tall.paste(row, (0, top))
    file_format = "TIFF" if mode == "CMYK" else "PNG"

    pixels = decode_photo(save(tall, file_format)).rgb

    assert pixels.shape == (1400, 1500, 3)
    assert np.array_equal(pixels, np.repeat(decode_photo(save(row, file_format)).rgb, 1400, axis=0))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_webp_has_the_pixels_that_pillow_reads(mode: str, orientation: int) -> None:
    """OpenCV decodes it, with a third of the memory. Its EXIF data do not turn it, as in browsers."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    picture = SMALL.convert(mode)
    picture.putalpha(200) if mode == "RGBA" else None
    data = save(picture, "WEBP", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        stored = image.convert("RGBA")
    white = Image.new("RGBA", stored.size, "white")

    assert np.array_equal(decode_photo(data).rgb, np.array(Image.alpha_composite(white, stored).convert("RGB")))


def test_a_masks_transparency_lies_on_black() -> None:
    """A transparent pixel is not marked."""
    pixels = np.array([[[255, 255, 255, 0], [255, 255, 255, 128], [255, 255, 255, 255]]], np.uint8)

    assert decode_mask(save(Image.fromarray(pixels))).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("data", [
    save(Image.fromarray(np.array([[[7, 0], [7, 255]]], np.uint8), "LA")),
    png(2, 1, 0, bytes([0, 9, 7]), chunk(b"tRNS", struct.pack(">H", 9))),
    png(2, 1, 2, bytes([0, 1, 2, 3, 7, 7, 7]), chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))),
    png(2, 1, 3, bytes([0, 0, 1]), chunk(b"PLTE", bytes([9, 9, 9, 7, 7, 7])), chunk(b"tRNS", bytes([0, 255]))),
], ids=["grey-alpha", "grey-colour-key", "rgb-colour-key", "palette"])  # fmt: skip
def test_every_kind_of_transparency_is_seen(data: bytes) -> None:
    """A second channel, a colour that means "nothing", a palette with alpha: first pixel clear, second one not."""
    photo, mask = decode_photo(data).rgb, decode_mask(data)

    assert photo.tolist() == [[[255, 255, 255], [7, 7, 7]]]
    assert mask.tolist() == [[0, 7]]


# --- masks --------------------------------------------------------------------------------------------------------


def test_a_mask_is_the_mean_of_its_channels() -> None:
    """Rounded down; grey stays as it is."""
    pixels = np.array([[[255, 0, 0], [255, 255, 0], [1, 1, 0], [200, 200, 200]]], np.uint8)

    assert decode_mask(save(Image.fromarray(pixels))).tolist() == [[85, 170, 0, 200]]


@given(
    pixels=st.lists(st.tuples(*[st.integers(0, 255)] * 4), min_size=1, max_size=4),
    mode=st.sampled_from(["RGBA", "RGB", "LA", "L", "P"]),
)
def test_an_empty_mask_is_one_without_anything_inside(pixels: list[tuple[int, ...]], mode: str) -> None:
    """The quick look at the door and the worker's decoder agree on every pixel."""
    picture = Image.fromarray(np.array([pixels], np.uint8)).convert(mode)
    data = save(picture)

    assert mask_is_empty(data) == (int(decode_mask(data).max()) <= 128)


@pytest.mark.parametrize("at", [(0, 0), (999, 1999), None], ids=["first", "last", "none"])
@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "I;16"])
def test_every_band_of_a_large_mask_counts(mode: str, at: tuple[int, int] | None) -> None:
    """One bright pixel anywhere makes it a mask; two megapixels are judged in two bands."""
    picture = Image.new("L", (1000, 2000))
    if at is not None:
        picture.putpixel(at, 255)
    picture = (
        picture.convert("I").point(lambda value: value * 257).convert(mode) if mode == "I;16" else picture.convert(mode)
    )

    assert mask_is_empty(save(picture)) == (at is None)


# --- colour profiles ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_colour_profile_is_kept(file_format: str) -> None:
    """A result in the profile of its upload shows the same colours."""
    photo = decode_photo(save(SMALL, file_format, icc_profile=PROFILE))

    again = decode_photo(encode_png(photo.rgb, photo.colour))
    assert photo.colour.icc == again.colour.icc == PROFILE
    assert same(photo.rgb, again.rgb)


def test_a_profile_of_other_channels_is_dropped() -> None:
    """It does not fit values that have become RGB."""
    photo = decode_photo(save(SMALL.convert("CMYK"), "TIFF", icc_profile=PROFILE))

    assert photo.colour == SRGB


# --- writing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_png_is_written_without_loss(mode: str) -> None:
    """Pillow reads back every value of every channel."""
    pixels = np.array(CAT.convert(mode))

    assert same(np.array(Image.open(io.BytesIO(encode_png(pixels)))), pixels)


def test_a_preview_is_small_and_close() -> None:
    """A tenth of the bytes, and hardly a difference to see."""
    pixels = np.array(CAT)
    data = encode_jpeg(pixels)

    assert len(data) < pixels.nbytes / 10
    assert np.abs(np.array(Image.open(io.BytesIO(data))).astype(int) - pixels).mean() < 8


# --- refused files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("file_format", WRITTEN)
@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.95])
def test_a_file_that_was_cut_short_is_refused(read: Callable[[bytes], object], file_format: str, kept: float) -> None:
    """Half an upload never becomes a picture with a grey lower half."""
    data = save(CAT, file_format)

    with pytest.raises(BadImage):
        read(data[: int(len(data) * kept)])


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", b"<svg/>", b"\0" * 500])
def test_what_is_no_picture_is_refused(read: Callable[[bytes], object], data: bytes) -> None:
    """The sentence names the formats that can be read."""
    with pytest.raises(BadImage, match=r"not a readable image \(PNG, JPEG, WEBP, BMP, GIF, TIFF, ICO, AVIF, HEIF\)"):
        read(data)


def test_other_formats_are_refused() -> None:
    """Pillow knows sixty formats; each one more is one more parser to attack."""
    with pytest.raises(BadImage):
        decode_photo(save(SMALL, "PPM"))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("width", "height"), [(30_000, 30_000), (MAX_SIDE_PX + 1, 1), (1, MAX_SIDE_PX + 1), (8193, 8192)]
)
def test_a_picture_that_is_too_large_is_refused_by_its_header(
    read: Callable[[bytes], object], width: int, height: int
) -> None:
    """The sentence names size and limit. Decoding would not get so far: the pixels are missing."""
    with pytest.raises(TooLarge, match=f"{width} x {height} pixels; at most 32767 a side and 67 megapixels"):
        read(png(width, height, 2, b"\0"))


@pytest.mark.parametrize("size", [(9248, 6936), (32_767, 2048)])
def test_a_large_telephone_photo_and_a_panorama_pass(size: tuple[int, int]) -> None:
    """The limits are those of the largest common files, in pixels and at a side."""
    data = save(Image.new("1", size), "PNG")

    assert (probe(data).width, probe(data).height) == size


@pytest.mark.parametrize("read", READERS)
def test_a_wrong_checksum_of_the_pixels_is_refused(read: Callable[[bytes], object]) -> None:
    """A PNG that was damaged on the way does not pass as another picture."""
    data = bytearray(save(SMALL))
    data[len(data) // 2] ^= 1

    with pytest.raises(BadImage, match="damaged or incomplete"):
        read(bytes(data))


def test_a_chunk_cannot_claim_more_than_the_file_holds() -> None:
    """The size is checked before memory for two gigabytes is allocated."""
    data = png(31, 24, 2, b"\0" * 94 * 24)
    pixels = data.index(b"IDAT") - 4
    greedy = data[:pixels] + struct.pack(">I", 0x7FFF_FFF0) + data[pixels + 4 :]
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with suppress(BadImage):
        decode_photo(greedy)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < 500_000
