"""The metadata of an upload that its renditions carry on."""

from __future__ import annotations

import pytest

from services.imageutils.renditions.carried import Carried, prepare

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
PACKET = f"""<rdf:RDF xmlns:rdf="{RDF}" xmlns:geo="http://www.w3.org/2003/01/geo/wgs84_pos#"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><rdf:Description rdf:about="" geo:lat="48.137" geo:long="11.575">
<geo:alt>519</geo:alt><dc:title><rdf:Alt><rdf:li>At the sea</rdf:li></rdf:Alt></dc:title></rdf:Description></rdf:RDF>
""".encode()


@pytest.mark.parametrize("place", [True, False])
def test_the_place_of_basic_geo_goes_with_the_others(place: bool) -> None:  # noqa: FBT001
    """W3C's names are short; the title, which stands in rdf:Alt, stays."""
    packet = prepare(Carried(xmp=PACKET), (30, 20), place=place).xmp

    assert [value in packet for value in (b"48.137", b"11.575", b"519")] == [place] * 3
    assert b"At the sea" in packet
