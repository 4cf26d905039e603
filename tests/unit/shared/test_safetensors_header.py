"""The header of a safetensors file: its tensors are read, and a file of another length or format is refused."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import pytest

from shared.safetensors_header import Tensor, read_header

if TYPE_CHECKING:
    from pathlib import Path


def write_file(path: Path, header: object, data: bytes = bytes(8)) -> Path:
    """Write a file with this header and these numbers."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_tensors_and_metadata_are_read(tmp_path: Path) -> None:
    """With the place of each tensor in the file."""
    path = write_file(tmp_path / "file", {"w": ENTRY, "__metadata__": {"format": "pt"}})

    header = read_header(path)

    size = path.stat().st_size
    assert header.tensors == {"w": Tensor("F32", (2,), size - 8, size)}
    assert header.metadata == {"format": "pt"}


def test_a_file_without_tensors_has_an_empty_header(tmp_path: Path) -> None:
    """Its readers decide whether that is an error."""
    assert read_header(write_file(tmp_path / "file", {}, b"")).tensors == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], "it is cut short"),
        (lambda data: data + b"\0", "it is longer than its header states"),
        (lambda _: b"", "it is not a safetensors file"),
        (lambda data: data[:20], "it is not a safetensors file"),
        (lambda _: b"\x80\x02}q\x00." * 20, "it is not a safetensors file"),
        (lambda _: struct.pack("<Q", 2**60) + b"{}", "it is not a safetensors file"),
    ],
    ids=["cut short", "longer", "empty", "half a header", "a pickle", "a huge header"],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: object, reason: str) -> None:
    """Without reading more than the header."""
    path = write_file(tmp_path / "file", {"w": ENTRY})
    assert callable(change)
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(ValueError, match=f"^{reason}$"):
        read_header(path)


@pytest.mark.parametrize(
    "header",
    [[], {"w": 1}, {"w": {"dtype": "F32"}}, {"w": {**ENTRY, "data_offsets": [0]}}, {"w": {**ENTRY, "shape": 2}}],
)
def test_a_header_of_another_form_is_refused(tmp_path: Path, header: object) -> None:
    """JSON alone is not enough."""
    with pytest.raises(ValueError, match=r"^it is not a safetensors file$"):
        read_header(write_file(tmp_path / "file", header))
