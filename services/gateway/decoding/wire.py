"""The protocol between the gateway and a decoding child on their socket.

A request is a work's name (one byte: its length), the size of the file in eight bytes, and the file. A reply is its
kind in one byte, its size in eight bytes, and its content.
"""

from __future__ import annotations

import struct

SIZE = struct.Struct("!Q")
VERDICT = b"v"
"""JSON: the verdict."""
FILE = b"f"
"""A converted file."""
REFUSAL = b"r"
"""JSON: code and message of an error."""
NEEDS = b"n"
"""JSON: the bytes of memory that the work needs, which are more than the child may take."""
