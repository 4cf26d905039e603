"""A result states its source type, and later edits keep the statement that a network has worked on it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from shared.image_codec import decode_photo, encode_png
from shared.source_types import SourceType, build_packet, combine, find_source_type
from shared.xmp import DIGITAL_SOURCE_TYPE, read_property

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
COMPOSITE, WITH_NETWORK, NETWORK = SourceType


@pytest.mark.parametrize("kind", SourceType)
def test_a_png_states_its_source_type_and_keeps_its_pixels(kind: SourceType) -> None:
    """Pillow finds the packet where XMP has its place in a PNG."""
    data = encode_png(PIXELS, source_type=kind)
    with Image.open(io.BytesIO(data)) as image:
        packet = image.info["xmp"]

    assert packet == build_packet(kind)
    assert read_property(packet, DIGITAL_SOURCE_TYPE) == kind
    assert find_source_type(data) == kind
    assert np.array_equal(decode_photo(data).rgb, PIXELS)


def test_a_png_without_a_source_type_has_no_packet() -> None:
    """As a white balance."""
    assert b"iTXt" not in encode_png(PIXELS)


@pytest.mark.parametrize(
    ("file_format", "options"),
    [("JPEG", {}), ("WEBP", {}), ("TIFF", {}), ("AVIF", {}), ("PNG", {})],
)
def test_the_statement_is_found_in_every_format(file_format: str, options: dict[str, object]) -> None:
    """Pillow writes the packet."""
    file, packet = io.BytesIO(), build_packet(NETWORK)
    if file_format == "PNG":
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", packet.decode())  # type: ignore[attr-defined]
    elif file_format == "TIFF":
        options = {"tiffinfo": {700: packet}}
    else:
        options = {"xmp": packet}
    Image.fromarray(PIXELS).save(file, file_format, **options)

    assert find_source_type(file.getvalue()) == NETWORK


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("composite", COMPOSITE),
        ("compositeCapture", COMPOSITE),
        ("compositeSynthetic", WITH_NETWORK),
        ("compositeWithTrainedAlgorithmicMedia", WITH_NETWORK),
        ("trainedAlgorithmicMedia", NETWORK),
        ("digitalCapture", None),
        ("algorithmicMedia", None),
    ],
)
def test_each_term_of_the_vocabulary_has_its_meaning(term: str, found: SourceType | None) -> None:
    """A photo of a camera is no composite."""
    assert find_source_type(f"x http://cv.iptc.org/newscodes/digitalsourcetype/{term} x".encode()) == found


@pytest.mark.parametrize(
    ("painted", "sources", "stated"),
    [
        (None, [None], None),
        (None, [WITH_NETWORK], WITH_NETWORK),  # a white balance of an earlier result
        (None, [NETWORK], NETWORK),
        (COMPOSITE, [None], COMPOSITE),
        (COMPOSITE, [NETWORK], WITH_NETWORK),
        (COMPOSITE, [WITH_NETWORK], WITH_NETWORK),  # a removal by PatchMatch after one by a network
        (COMPOSITE, [None, NETWORK], WITH_NETWORK),  # the pasted object is from a network
        (WITH_NETWORK, [COMPOSITE, None], WITH_NETWORK),
    ],
)
def test_an_edit_hides_no_network(
    painted: SourceType | None, sources: list[SourceType | None], stated: SourceType | None
) -> None:
    """Neither that of an earlier edit nor that of a reference."""
    assert combine(painted, sources) == stated
