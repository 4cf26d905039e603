"""HEIC is read by a decoder of its own, which a machine may lack; the sentence of a refusal names the format."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from shared.errors import BadImage
from shared.image_codec import ImageInfo, decode_mask, decode_photo, mask_is_empty, probe

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
READERS = (probe, decode_photo, decode_mask, mask_is_empty)


def heic(name: str) -> bytes:
    return (Path(__file__).parent / "heic" / f"{name}.heic").read_bytes()


@pytest.mark.parametrize(("name", "size"), [("plain", (64, 32)), ("turned", (32, 64)), ("transparent", (64, 32))])
def test_a_telephones_heic_is_read(name: str, size: tuple[int, int]) -> None:
    """Upright by its transform alone, whatever its EXIF data say, and with transparency on white."""
    first = {"plain": (220, 40, 40), "turned": (50, 60, 210), "transparent": (255, 255, 255)}[name]

    rgb = decode_photo(heic(name)).rgb

    assert probe(heic(name)) == ImageInfo(*size, "image/heic")
    assert rgb.shape == (size[1], size[0], 3)
    assert np.abs(rgb[4, 4].astype(int) - first).max() <= 2


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.95, 0.999])
def test_a_heic_that_was_cut_short_is_refused(read: Callable[[bytes], object], kept: float) -> None:
    """By the lengths of its boxes, before anything is decoded."""
    data = heic("plain")

    with pytest.raises(BadImage):
        read(data[: int(len(data) * kept)])


def test_only_heic_needs_its_decoder() -> None:
    """A machine without the package reads all other formats, and names the unreadable one in an error text."""
    code = (
        "import sys; sys.modules['pi_heif'] = None\n"
        "import io\nfrom PIL import Image\nfrom shared.image_codec import probe\n"
        "from shared.image_formats import missing_decoders\n"
        "file = io.BytesIO(); Image.new('RGB', (3, 2)).save(file, 'JPEG')\n"
        "print(probe(file.getvalue()).width, *missing_decoders())\n"
        "try: probe(open(sys.argv[1], 'rb').read())\n"
        "except Exception as error: print(error)\n"
    )
    path = Path(__file__).parent / "heic" / "plain.heic"

    run = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True)

    first, second = run.stdout.splitlines()
    assert first == "3 HEIF"
    assert second.startswith("HEIC is not supported on this server")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("data", "name"), [
    (b"GIF89a", "GIF"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"BM" + bytes(90), "BMP"), (b"\0\0\1\0", "ICO"),
])  # fmt: skip
def test_a_known_format_that_cannot_be_read_is_named(read: Callable[[bytes], object], data: bytes, name: str) -> None:
    """A list with this format in it would be no help."""
    with pytest.raises(BadImage, match=f"The {name} is damaged, or of a kind that is not read"):
        read(data)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "TIFF"])
def test_xmp_turns_no_picture(kind: str) -> None:
    """Pillow would turn a TIFF by it, while it decodes the pixels."""
    packet, file = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>', io.BytesIO()
    Image.new("RGB", (31, 24), "teal").save(file, kind, xmp=packet, tiffinfo={700: packet})
    data = file.getvalue()

    assert packet in data
    assert (probe(data).width, probe(data).height) == (31, 24)
    assert decode_photo(data).rgb.shape == (24, 31, 3)
