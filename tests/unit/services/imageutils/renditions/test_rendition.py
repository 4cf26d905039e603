"""Renditions as files: the content of each format, and uploads that were made to break them."""

from __future__ import annotations

import io
import struct
from base64 import b64encode
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from services.imageutils.renditions.carried import read_carried
from services.imageutils.renditions.jpeg_file import encode_jpeg, read_coding
from services.imageutils.renditions.rendition import Rendition, Wanted, encode_rendition
from shared import png, xmp
from shared.colour import SRGB, Colour
from shared.image_codec import decode_photo, encode_png
from shared.orientation import SIDEWAYS
from shared.source_types import SourceType
from tests.phone_photo import MAKER, P3, SIZE, UNEDITED, exif_block, phone_jpeg, photoshop_resources, scene, segment

KINDS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP")
PIXELS = np.asarray(scene())
STORED = encode_png(PIXELS, Colour(P3), SourceType.COMPOSITE)


def make(kind: str, upload: bytes | None = None, stored: bytes = STORED, **options: Any) -> Rendition:
    """Return a rendition of a stored result."""
    return encode_rendition([stored], upload, "JPEG" if upload else None, Wanted(kind, **options))


def open_picture(rendition: Rendition) -> Image.Image:
    picture = Image.open(io.BytesIO(rendition.data))
    picture.load()
    assert picture.size == (rendition.width, rendition.height)
    return picture


def jpeg(*segments: bytes, **options: Any) -> bytes:
    """Return a JPEG with segments before its pixels."""
    file = io.BytesIO()
    scene().save(file, "JPEG", **options)
    data = file.getvalue()
    return data[:2] + b"".join(segments) + data[2:]


# --- how a JPEG is encoded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [5, 60, 100])
def test_a_jpeg_has_the_tables_of_its_upload(sampling: int, quality: int) -> None:
    """And its subsampling. A quality in the request replaces the tables."""
    upload = jpeg(quality=quality, subsampling=sampling)

    same, other = open_picture(make("JPEG", upload)), open_picture(make("JPEG", upload, quality=77))

    came: Any = Image.open(io.BytesIO(upload))
    assert (same.quantization, same.layer) == (came.quantization, came.layer)  # type: ignore[attr-defined]
    assert other.quantization != came.quantization  # type: ignore[attr-defined]
    assert other.layer == came.layer  # type: ignore[attr-defined]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("sampling", "mean"), [(0, 0.1), (1, 1.8), (2, 2.0)])
def test_a_turned_photo_is_encoded_as_it_was(orientation: int, sampling: int, mean: float) -> None:
    """Its tables are turned with it, so its blocks come back almost as they were; colours halved across stay full."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    upload = jpeg(quality=80, subsampling=sampling, exif=exif.tobytes())
    pixels = decode_photo(upload).rgb

    coding = read_coding(upload)
    again = decode_photo(encode_jpeg(Image.fromarray(pixels), coding, None, None)).rgb

    assert coding.sampling == (0 if sampling == 1 and orientation in SIDEWAYS else sampling)
    assert np.abs(again.astype(int) - pixels).mean() < mean


@pytest.mark.parametrize("mode", ["CMYK", "RGB"])
def test_tables_for_other_channels_are_not_used(mode: str) -> None:
    """Those of C, M, Y, K or R, G, B do not fit brightness and colours; then quality and subsampling are the best."""
    file = io.BytesIO()
    scene().convert(mode).save(file, "JPEG", quality=20, keep_rgb=True)

    picture = open_picture(make("JPEG", file.getvalue()))

    assert picture.quantization == open_picture(make("JPEG")).quantization  # type: ignore[attr-defined]
    assert [layer[1:3] for layer in picture.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]


def test_a_grey_jpeg_stays_grey() -> None:
    """As long as the result has no colour."""
    upload, grey = jpeg(quality=80), encode_png(np.repeat(PIXELS[..., :1], 3, axis=2))
    file = io.BytesIO()
    scene().convert("L").save(file, "JPEG", quality=80)

    assert open_picture(make("JPEG", file.getvalue(), grey)).mode == "L"
    assert open_picture(make("JPEG", file.getvalue())).mode == "RGB"
    assert open_picture(make("JPEG", upload, grey)).mode == "RGB"


def test_a_progressive_jpeg_stays_progressive() -> None:
    """Browsers show it the same way."""
    assert open_picture(make("JPEG", jpeg(progressive=True))).info.get("progressive")
    assert not open_picture(make("JPEG", jpeg())).info.get("progressive")


# --- colours and depth --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "TIFF"])
def test_colours_that_a_png_states_by_chunks_become_a_profile(kind: str) -> None:
    """No other format has these chunks."""
    p3 = Colour(chunks={b"cICP": bytes([12, 13, 0, 1])})

    assert open_picture(make(kind, stored=encode_png(PIXELS, p3))).info["icc_profile"] == p3.profile
    assert "icc_profile" not in open_picture(make(kind, stored=encode_png(PIXELS, SRGB))).info


def test_light_beyond_white_is_noted() -> None:
    """No profile states it."""
    stored = encode_png(PIXELS, Colour(chunks={b"cICP": bytes([9, 16, 0, 1])}))

    assert "light" in make("JPEG", stored=stored).notes[0]
    assert make("PNG", stored=stored).notes == []


def deep_png() -> tuple[bytes, np.ndarray[Any, np.dtype[np.uint16]]]:
    """Return a PNG with 16 bits a channel, and its values."""
    values = np.asarray(PIXELS, np.uint16) * 257 + np.arange(SIZE[0], dtype=np.uint16)[:, None]
    _, data = cv2.imencode(".png", cv2.cvtColor(values, cv2.COLOR_RGB2BGR))
    return bytes(data), values


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_stay_in_png_and_tiff(order: str) -> None:
    """Others have 8, and a note."""
    stored, values = deep_png()
    upload = jpeg(segment(0xE1, b"Exif\0\0" + exif_block(1, order)))

    for kind in ("PNG", "TIFF"):
        data = np.frombuffer(make(kind, upload, stored).data, np.uint8)
        back = cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)), cv2.COLOR_BGR2RGB)
        assert np.array_equal(back, values), kind
    picture = open_picture(make("JPEG", stored=stored))
    assert np.abs(np.asarray(picture, np.int16) - PIXELS).mean() < 2
    assert "16 bits" in make("WEBP", stored=stored).notes[0]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_opacity_stays(kind: str) -> None:
    """Also where a picture is transparent only in places."""
    rgba = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    rgba[:20, :30, 3] = 40

    picture = open_picture(make(kind, stored=encode_png(rgba), lossless=True))

    assert np.abs(np.asarray(picture.getchannel("A"), np.int16) - rgba[..., 3]).max() <= 2


def test_equal_requests_give_equal_bytes() -> None:
    """So a download can be resumed after the cache has lost the file."""
    for kind in KINDS:
        assert make(kind, phone_jpeg()).data == make(kind, phone_jpeg()).data, kind


# --- metadata from other containers -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF", "JPEG"])
def test_what_one_format_carries_another_one_gets(kind: str) -> None:
    """A file of each format is the upload of a JPEG."""
    first = make(kind, phone_jpeg())

    picture = open_picture(encode_rendition([STORED], first.data, kind, Wanted("JPEG")))

    assert picture.getexif()[0x010F] == "A maker"
    assert picture.getexif().get_ifd(0x8825)[2] == (48.0, 8.0, 15.0)
    assert xmp.read_property(picture.info["xmp"], xmp.DIGITAL_SOURCE_TYPE) == SourceType.COMPOSITE
    assert b"Some One" in picture.info["xmp"]
    if kind in {"PNG", "TIFF"}:
        assert picture.info["dpi"] == (96, 72)
    if kind == "TIFF":
        assert b"A caption" in picture.info["photoshop"][0x0404]


@pytest.mark.parametrize(("stated", "kept"), [((150, 100), (150, 100)), ((0, 0), None)])
def test_the_density_of_a_bmp_is_kept(stated: tuple[int, int], kept: tuple[int, int] | None) -> None:
    """Each format with a field for it has the density. A BMP without one gives none."""
    file = io.BytesIO()
    scene().save(file, "BMP", dpi=stated)

    found = [
        open_picture(encode_rendition([STORED], file.getvalue(), "BMP", Wanted(kind))).info.get("dpi")
        for kind in ("PNG", "JPEG", "BMP")
    ]

    assert [None if each is None else tuple(map(round, each)) for each in found[:2]] == [kept, kept]
    assert tuple(map(round, found[2] or ())) == (kept or (96, 96))  # a BMP without a density is shown with 96


def test_the_texts_of_a_png_stay_in_a_png() -> None:
    """Those with a keyword of the specification."""
    texts = [(b"tEXt", b"Title\0A title"), (b"tEXt", b"parameters\0a secret"), (b"tIME", bytes(7))]
    upload = png.pack(PIXELS, *texts)

    data = encode_rendition([STORED], upload, "PNG", Wanted("PNG")).data

    assert b"A title" in data
    assert b"a secret" not in data


def preview(kind: str) -> bytes:
    file = io.BytesIO()
    scene().save(file, kind)
    return file.getvalue()


HIDDEN = {kind: preview(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF")}


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_picture_in_an_unknown_property_drops_the_packet(kind: str) -> None:
    """No list names all the places where programs hide previews."""
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:m="http://maker/" m:Preview="' + b64encode(HIDDEN[kind]) + b'"/></rdf:RDF></x:xmpmeta>'
    )
    upload = jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))

    assert b"maker" not in make("JPEG", upload).data


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_picture_in_a_comment_of_the_camera_is_dropped(kind: str) -> None:
    """As it is, or as text."""
    for value in (HIDDEN[kind], b64encode(HIDDEN[kind])):
        exif = Image.Exif()
        exif[0x010F] = MAKER
        exif.get_ifd(0x8769)[0x9286] = bytes(8) + value
        upload = jpeg(segment(0xE1, b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")))

        data = make("JPEG", upload).data

        assert MAKER.encode() in data
        assert value not in data


# --- uploads that were made to break it ---------------------------------------------------------------------------

APP1, APP13, APP2 = 0xE1, 0xED, 0xE2
LOOP = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 8)
HUGE = b"\x0f\x01\x02\0\xff\xff\xff\x7f\0\0\0\0"  # a tag with two billion characters
PROFILE = b"ICC_PROFILE\0"
HOSTILE = {
    "segments": jpeg(segment(0xE5, b"") * 500_000),
    "exif segments": jpeg(segment(APP1, b"Exif\0\0") * 1900),
    "loop": jpeg(segment(APP1, b"Exif\0\0" + LOOP)),
    "huge count": jpeg(segment(APP1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + HUGE * 5000)),
    "empty exif": jpeg(segment(APP1, b"Exif\0\0II*\0")),
    "garbage xmp": jpeg(segment(APP1, b"http://ns.adobe.com/xap/1.0/\0" + b"<x" * 30_000)),
    "entities": jpeg(segment(APP1, b'http://ns.adobe.com/xap/1.0/\0<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>')),
    "garbage profile": jpeg(segment(APP2, b"ICC_PROFILE\0\1\1" + b"garbage" * 1000)),
    "endless profile": jpeg(*(segment(APP2, PROFILE + bytes([n, 255]) + bytes(60_000)) for n in range(1, 255))),
    "cut resources": jpeg(segment(APP13, photoshop_resources()[:60])),
    "long resources": jpeg(segment(APP13, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\xff\xff\xff\xff")),
    "no jpeg": b"\xff\xd8\xff" + bytes(100),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_metadata_fail_a_rendition(name: str) -> None:
    """It comes without them, and its pixels are right."""
    for kind in KINDS:
        picture = open_picture(encode_rendition([STORED], HOSTILE[name], "JPEG", Wanted(kind))).convert("RGB")
        assert np.abs(np.asarray(picture, np.int16) - PIXELS).mean() < 8, kind


@settings(max_examples=60)
@given(st.data())
def test_no_damage_fails_or_brings_an_old_picture(data: st.DataObject) -> None:
    """Bytes before the pixels of a telephone's photo are changed anywhere."""
    upload = bytearray(phone_jpeg())
    for _ in range(data.draw(st.integers(1, 8))):
        upload[data.draw(st.integers(2, 6000))] = data.draw(st.integers(0, 255))

    rendition = make("JPEG", bytes(upload))

    assert UNEDITED not in rendition.data
    assert open_picture(rendition).size == SIZE


@settings(max_examples=200)
@given(st.binary(max_size=400), st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "GIF"]))
def test_no_file_fails_the_reader(data: bytes, kind: str) -> None:
    """Whatever its bytes are."""
    starts = {"PNG": png.SIGNATURE, "JPEG": b"\xff\xd8", "WEBP": b"RIFF\0\0\0\0WEBP", "TIFF": b"II*\0"}

    carried = read_carried(starts.get(kind, b"\0\0\0\x14ftypavif\0\0\0\0avif") + data, kind)

    assert carried.texts == []


def test_an_upload_that_is_shown_may_have_any_profile() -> None:
    """A rendition of an upload itself is read as any photo."""
    upload = phone_jpeg()
    rendition = encode_rendition([upload], upload, "JPEG", Wanted("PNG"), is_stored=False)

    assert np.array_equal(np.asarray(open_picture(rendition)), decode_photo(upload).rgb)
    for name in ("garbage profile", "garbage xmp", "huge count"):
        shown = encode_rendition([HOSTILE[name]], HOSTILE[name], "JPEG", Wanted("WEBP"), is_stored=False)
        assert open_picture(shown).size == SIZE
