"""XMP packets are built to the byte and merged safely: a bad packet from outside only loses its own content."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import xmp
from shared.xmp import DIGITAL_SOURCE_TYPE

VALUE = "http://cv.iptc.org/newscodes/digitalsourcetype/composite"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
CAMERA = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="A camera 1.0"><rdf:RDF xmlns:rdf="{RDF}">
 <rdf:Description rdf:about="uuid:7" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Make="Böse &amp; Co"
  xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"
  xmpNote:HasExtendedXMP="0123456789ABCDEF0123456789ABCDEF" xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="48,8.1N"/>
 <rdf:Description rdf:about="uuid:7" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
  xmlns:tiff="http://ns.adobe.com/tiff/1.0/">
  <tiff:Orientation>6</tiff:Orientation>
  <dc:title><rdf:Alt><rdf:li xml:lang="x-default">At the sea</rdf:li></rdf:Alt></dc:title>
  <xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType="Resource"><xmpGImg:image xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/"
   >/9j/AAAA</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>
 </rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()  # noqa: E501
BOMB = f"""<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="">&b;</rdf:Description></rdf:RDF>""".encode()
DEEP = b"<a>" * 5_000 + b"</a>" * 5_000
UNUSABLE = {
    "empty": b"",
    "no XML": b"\xff\xd8\xff\xe0" * 9,
    "cut off": CAMERA[:700],
    "not UTF-8": CAMERA.replace("ö".encode(), b"\xf6"),
    "UTF-16": CAMERA.decode().encode("utf-16"),
    "other XML": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "entities": BOMB,
    "an undeclared prefix": f'<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description tiff:a="1"/></rdf:RDF>'.encode(),
    "a namespace with a space": f'<rdf:RDF xmlns:rdf="{RDF}" xmlns:a="b c"><a:d/></rdf:RDF>'.encode(),
    "deep": f'<rdf:RDF xmlns:rdf="{RDF}">'.encode() + DEEP + b"</rdf:RDF>",
    "long": CAMERA.replace(b"At the sea", b"a" * xmp.LONGEST_BYTES),
}


def parse(packet: bytes) -> ET.Element:
    """Return the root element of one of our packets."""
    return ET.fromstring(packet)  # noqa: S314 (we wrote it)


def test_a_packet_is_built_to_the_byte() -> None:
    """It has no time and no id, so the same edit gives the same file."""
    packet = xmp.build({DIGITAL_SOURCE_TYPE: VALUE})

    assert packet.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'.encode())
    assert packet.endswith(b'<?xpacket end="w"?>')
    assert packet == xmp.build({DIGITAL_SOURCE_TYPE: VALUE})
    assert len(packet) < 600
    assert xmp.read_property(packet, DIGITAL_SOURCE_TYPE) == VALUE


def test_a_value_cannot_leave_its_attribute() -> None:
    """Whatever characters it has."""
    value = '"><evil xmlns="urn:a"/>&amp;\'<'

    assert xmp.read_property(xmp.build({DIGITAL_SOURCE_TYPE: value}), DIGITAL_SOURCE_TYPE) == value


def test_a_merged_packet_keeps_what_the_camera_wrote() -> None:
    """The orientation (attribute or element), pictures and references to other parts of the file are removed."""
    merged = xmp.merge(CAMERA, {DIGITAL_SOURCE_TYPE: VALUE}, xmp.is_obsolete)
    text = merged.decode()

    assert xmp.read_property(merged, DIGITAL_SOURCE_TYPE) == VALUE
    assert xmp.read_property(merged, xmp.Property("http://ns.adobe.com/tiff/1.0/", "tiff", "Make")) == "Böse & Co"
    assert "At the sea" in text
    assert "GPSLatitude" in text
    assert 'xmp:Rating="4"' in text
    assert not [word for word in ("Orientation", "Thumbnails", "/9j/", "HasExtendedXMP") if word in text]


def test_the_place_goes_where_it_should() -> None:
    """Only if it is to go."""
    merged = xmp.merge(CAMERA, {}, xmp.is_location)

    assert b"GPS" not in merged
    assert b"tiff:Orientation" in merged


def test_comments_and_instructions_go() -> None:
    """The code that removes properties cannot read comments and instructions."""
    packet = CAMERA.replace(b"<rdf:RDF", b"<!-- 48.1 N --><?place 48.1 N?><rdf:RDF", 1)

    assert xmp.merge(packet, {}) == xmp.merge(CAMERA, {})


def test_all_descriptions_are_about_one_thing() -> None:
    """XMP (ISO 16684-1, 7.4) allows no other packet."""
    merged = parse(xmp.merge(CAMERA, {DIGITAL_SOURCE_TYPE: VALUE}))

    assert {each.get(f"{{{RDF}}}about") for each in merged.iter(f"{{{RDF}}}Description")} == {"uuid:7"}


@pytest.mark.parametrize(
    "form",
    [
        f'<rdf:Description {{}} i:DigitalSourceType="{VALUE}"/>',
        f"<rdf:Description {{}}><i:DigitalSourceType> {VALUE} </i:DigitalSourceType></rdf:Description>",
        f'<rdf:Description {{}}><i:DigitalSourceType rdf:resource="{VALUE}"/></rdf:Description>',
    ],
)
def test_every_form_of_a_property_is_read_and_replaced(form: str) -> None:
    """Attribute, element and reference; under any prefix, and beside one that means something else."""
    spaces = 'xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:Iptc4xmpExt="urn:other" Iptc4xmpExt:a="1"'
    packet = f'<rdf:RDF xmlns:rdf="{RDF}">{form.format(spaces)}</rdf:RDF>'.encode()
    merged = xmp.merge(packet, {DIGITAL_SOURCE_TYPE: "new"})

    assert xmp.read_property(packet, DIGITAL_SOURCE_TYPE) == VALUE
    assert xmp.read_property(merged, DIGITAL_SOURCE_TYPE) == "new"
    assert VALUE not in merged.decode()
    assert b"urn:other" in merged


@pytest.mark.parametrize("packet", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_packet_gives_a_new_one(packet: bytes) -> None:
    """It is refused before it is expanded, and never costs the result."""
    assert xmp.merge(packet, {DIGITAL_SOURCE_TYPE: VALUE}, xmp.is_obsolete) == xmp.build({DIGITAL_SOURCE_TYPE: VALUE})
    assert xmp.merge(packet, {}, xmp.is_obsolete) == b""
    assert xmp.read_property(packet, DIGITAL_SOURCE_TYPE) is None


def test_a_packet_that_would_grow_too_long_gives_a_new_one() -> None:
    """It has to fit into one segment of a JPEG."""
    full = CAMERA.replace(b"At the sea", b"a" * (xmp.LONGEST_BYTES - len(CAMERA)))

    assert xmp.merge(full, {}) != b""
    assert xmp.merge(full, {DIGITAL_SOURCE_TYPE: "v" * 600}) == xmp.build({DIGITAL_SOURCE_TYPE: "v" * 600})


@given(place=st.integers(0, len(CAMERA) - 1), junk=st.binary(max_size=9), dropped=st.integers(0, 40))
def test_a_damaged_packet_gives_a_readable_one(place: int, junk: bytes, dropped: int) -> None:
    """Whatever is damaged."""
    merged = xmp.merge(CAMERA[:place] + junk + CAMERA[place + dropped :], {DIGITAL_SOURCE_TYPE: VALUE}, xmp.is_obsolete)

    assert xmp.read_property(merged, DIGITAL_SOURCE_TYPE) == VALUE
    parse(merged)
