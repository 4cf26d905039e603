"""XMP packets: build one, and change properties of one that came with an upload (ISO 16684-1).

A packet from outside is never trusted: one that is too long, too deep, no XMP, or has a document type (the only way to
define entities) counts as none.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.dom import XMLNS_NAMESPACE, minidom
from xml.parsers.expat import ExpatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Removal = Callable[[str, str], bool]
    """Returns whether to remove the property with this namespace and name."""

LONGEST_BYTES = 65_502
"""The longest packet that is read or written: what one segment of a JPEG holds (ISO 16684-3)."""
PNG_KEYWORD = b"XML:com.adobe.xmp"
"""The keyword of the chunk iTXt that holds a packet in a PNG (XMP specification, part 3, 1.1.5)."""
_PNG_PLAIN = b"\0\0\0\0\0"  # the end of the keyword, compression, its method, no language, no translated keyword
_DEEPEST = 64  # elements; the serialisation is recursive
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_XMP = "http://ns.adobe.com/xap/1.0/"
# Pictures within the packet, and hints at pictures and data elsewhere in the file that an edit does not carry over.
_OF_OTHER_PICTURES = (
    "http://ns.adobe.com/xap/1.0/g/img/",
    "http://ns.adobe.com/xmp/note/",
    "http://ns.adobe.com/hdr-gain-map/",
    "http://ns.apple.com/HDRGainMap/",
    "http://ns.apple.com/pixeldatainfo/",
    "http://ns.google.com/photos/",
)
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'  # the id that all packets have
_TAIL = '\n<?xpacket end="w"?>'
_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>'


class Property(NamedTuple):
    """A simple property: its namespace, the usual prefix of that, and its name."""

    namespace: str
    prefix: str
    name: str


DIGITAL_SOURCE_TYPE = Property("http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "Iptc4xmpExt", "DigitalSourceType")
"""IPTC Photo Metadata 2023.1, "Digital Source Type"."""


def is_obsolete(namespace: str, name: str) -> bool:
    """Return whether a property is wrong in an edited, upright picture: orientation, thumbnails, gain maps, depth."""
    if (namespace, name) in {(_TIFF, "Orientation"), (_XMP, "Thumbnails")}:
        return True
    return namespace.startswith(_OF_OTHER_PICTURES)


def is_location(namespace: str, name: str) -> bool:
    """Return whether a property states the place of the camera (GPS)."""
    return namespace == _EXIF and name.startswith("GPS")


def build(values: Mapping[Property, str]) -> bytes:
    """Return a packet with these properties only. Equal values give equal bytes."""
    document = minidom.parseString(_EMPTY)  # noqa: S318 (a constant)
    _set(document, values)
    return _serialise(document)


def build_png_text(packet: bytes) -> bytes:
    """Return the body of a chunk iTXt with a packet."""
    return PNG_KEYWORD + _PNG_PLAIN + packet


def merge(packet: bytes | None, values: Mapping[Property, str], *removals: Removal) -> bytes:
    """Return the packet without the properties that any of `removals` selects, at any depth, with these values set.

    A packet that is None or unusable gives a new one with the values; b"" if there are none either. Equal inputs give
    equal bytes.
    """
    document = None if packet is None else _parse(packet)
    if document is None:
        return build(values) if values else b""
    replaced = {each[::2] for each in values}
    _remove(document, lambda namespace, name: (namespace, name) in replaced)
    for removal in removals:
        _remove(document, removal)
    _set(document, values)
    merged = _serialise(document)
    if len(merged) <= LONGEST_BYTES:
        return merged
    return build(values) if values else b""


def read_property(packet: bytes, wanted: Property) -> str | None:
    """Return the value of a simple property; None without one or if the packet is unusable."""
    document = _parse(packet)
    if document is None:
        return None
    for element in _elements(document):
        if (element.namespaceURI, element.localName) == (_RDF, "Description"):
            value = element.getAttributeNS(wanted.namespace, wanted.name)
        elif (element.namespaceURI, element.localName) == (wanted.namespace, wanted.name):
            value = element.getAttributeNS(_RDF, "resource") or _text(element)
        else:
            continue
        if value := value.strip():
            return value
    return None


def _parse(packet: bytes) -> minidom.Document | None:
    if len(packet) > LONGEST_BYTES:
        return None
    with suppress(ExpatError, ValueError):  # ValueError: text that is not UTF-8, names that minidom cannot hold
        text = packet.decode("utf-8-sig").strip("\0 \t\r\n")
        if "<!DOCTYPE" in text:
            return None
        document = minidom.parseString(text)  # noqa: S318 (without a document type there are no entities)
        _remove_remarks(document)
        is_flat = all(depth <= _DEEPEST for _, depth in _walk(document))
        return document if is_flat and _find_rdf(document) is not None else None
    return None


def _remove_remarks(document: minidom.Document) -> None:
    """Remove comments and instructions: XMP ignores both, and they may contain anything."""
    remarks = (minidom.Comment, minidom.ProcessingInstruction)
    for node in [document, *_elements(document)]:
        children: Any = node.childNodes  # a list, which its type does not state
        children[:] = [child for child in children if not isinstance(child, remarks)]


def _walk(document: minidom.Document) -> Iterator[tuple[minidom.Element, int]]:
    """Yield each element and its depth, in the order of the document, without recursion."""
    waiting: list[tuple[minidom.Node, int]] = [(document, 0)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, minidom.Element):
            yield node, depth
        waiting += [(child, depth + 1) for child in reversed(node.childNodes)]


def _elements(document: minidom.Document) -> list[minidom.Element]:
    return [element for element, _ in _walk(document)]


def _find_rdf(document: minidom.Document) -> minidom.Element | None:
    """Return the element rdf:RDF: the root or a child of it."""
    at_most = 2
    found = (each for each, depth in _walk(document) if depth <= at_most and each.localName == "RDF")
    return next((each for each in found if each.namespaceURI == _RDF), None)


def _remove(document: minidom.Document, is_wanted: Removal) -> None:
    for element in _elements(document):
        for attribute in list(element.attributes.values()):
            if is_wanted(attribute.namespaceURI or "", attribute.localName or ""):
                element.removeAttributeNode(attribute)
        parent = element.parentNode
        if parent is not None and is_wanted(element.namespaceURI or "", element.localName):
            parent.removeChild(element)


def _set(document: minidom.Document, values: Mapping[Property, str]) -> None:
    """Add a description of our own: it declares its prefixes itself, whatever they mean around it."""
    root = _find_rdf(document)
    if root is None or not values:
        return
    about = next((each.getAttributeNS(_RDF, "about") for each in root.getElementsByTagNameNS(_RDF, "Description")), "")
    own = document.createElementNS(_RDF, "rdf:Description")
    own.setAttributeNS(XMLNS_NAMESPACE, "xmlns:rdf", _RDF)
    own.setAttributeNS(_RDF, "rdf:about", about)  # all descriptions of a packet are about one thing
    for (namespace, prefix, name), value in values.items():
        own.setAttributeNS(XMLNS_NAMESPACE, f"xmlns:{prefix}", namespace)
        own.setAttributeNS(namespace, f"{prefix}:{name}", value)
    root.appendChild(own)


def _serialise(document: minidom.Document) -> bytes:
    root = document.documentElement
    return "".join((_HEAD, "" if root is None else root.toxml(), _TAIL)).encode()


def _text(element: minidom.Element) -> str:
    return "".join(child.data for child in element.childNodes if isinstance(child, minidom.Text))
