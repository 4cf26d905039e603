"""The origin of a picture: the IPTC "Digital Source Type", read from a file and written into a result as XMP.

The addresses are those of https://cv.iptc.org/newscodes/digitalsourcetype/.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from shared import xmp

if TYPE_CHECKING:
    from collections.abc import Iterable

_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"


class SourceType(StrEnum):
    """The source types that a result can have, the weakest statement first."""

    COMPOSITE = f"{_VOCABULARY}composite"
    """It has parts of its own surroundings or of another picture."""
    COMPOSITE_WITH_NETWORK = f"{_VOCABULARY}compositeWithTrainedAlgorithmicMedia"
    """A trained network painted a part of it."""
    NETWORK = f"{_VOCABULARY}trainedAlgorithmicMedia"
    """A trained network painted all of it."""


_STRENGTH = list(SourceType)
# In any part of a file: XMP, a C2PA manifest, IPTC. The last one also begins the types of other composites.
_MARKS = (
    (b"compositeWithTrainedAlgorithmicMedia", SourceType.COMPOSITE_WITH_NETWORK),
    (b"digitalsourcetype/compositeSynthetic", SourceType.COMPOSITE_WITH_NETWORK),
    (b"trainedAlgorithmicMedia", SourceType.NETWORK),
    (b"digitalsourcetype/composite", SourceType.COMPOSITE),
)


def find_source_type(file: bytes) -> SourceType | None:
    """Return the source type that a file of any format states in plain text; None without one of these.

    If it states several, for itself and its parts, the order of `_MARKS` decides: mixtures with networks come first.
    """
    return next((kind for mark, kind in _MARKS if mark in file), None)


def combine(painted: SourceType | None, sources: Iterable[SourceType | None]) -> SourceType | None:
    """Return the source type of an edit that was `painted` so, from the pictures `sources`; the edited one is first.

    An edit does not hide the use of networks in its sources. One that paints nothing (None) keeps its picture's type.
    """
    found = list(sources)
    if painted is None:
        return found[0] if found else None
    strongest = max([painted, *filter(None, found)], key=_STRENGTH.index)
    return min(strongest, SourceType.COMPOSITE_WITH_NETWORK, key=_STRENGTH.index)


@cache  # each takes 0.2 ms, and there are few
def build_packet(source_type: SourceType) -> bytes:
    """Return an XMP packet that states the source type and nothing else, so that equal edits give equal bytes."""
    return xmp.build({xmp.DIGITAL_SOURCE_TYPE: source_type})


def build_png_chunks(source_type: SourceType | None) -> list[tuple[bytes, bytes]]:
    """Return the name and the body of the chunks that state the source type in a PNG; none for None."""
    return [] if source_type is None else [(b"iTXt", xmp.build_png_text(build_packet(source_type)))]
