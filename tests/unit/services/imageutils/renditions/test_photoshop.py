"""Captions in Photoshop resources: which datasets of an upload its renditions contain."""

from __future__ import annotations

import pytest

from services.imageutils.renditions.photoshop import read_iptc
from tests.phone_photo import iptc_dataset, unedited_jpeg


@pytest.mark.parametrize("record", [1, 2])
def test_datasets_of_previews_and_later_ones_are_left_out(record: int) -> None:
    """Both records define captions only below number 200."""
    captions = [iptc_dataset(record, number, b"a caption") for number in range(256)]

    assert read_iptc(b"".join(captions)) == b"".join(captions[:200])


def test_records_of_objects_are_left_out() -> None:
    """Only the records 1 and 2 describe the picture."""
    records = [iptc_dataset(record, 120, b"a caption") for record in range(256)]

    assert read_iptc(b"".join(records)) == b"".join(records[1:3])


def test_a_picture_is_left_out_whatever_its_number_is() -> None:
    """A damaged number turns a preview into a caption."""
    assert read_iptc(b"".join(iptc_dataset(2, number, unedited_jpeg()) for number in range(256))) == b""
