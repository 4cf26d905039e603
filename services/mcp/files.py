"""The local files that tools may read: pictures below one folder that the user chooses. Without it, none."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from mcp.server.mcpserver.exceptions import ToolError

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_BYTES = 48 * 1024**2  # the gateway takes 64 MiB
_NO_FILES = "This server reads no files: send the picture as base64 in data, or start the server with --root FOLDER."
_OUTSIDE = "The path lies outside the folder that this server may read."
_NO_FILE = "There is no file at this path."
_TOO_LARGE = f"The file is larger than {LARGEST_BYTES // 1024**2} MiB."


class Files:
    """Reads files below a folder. A link that leads out of it is refused."""

    def __init__(self, root: Path | None) -> None:
        self._root = None if root is None else root.resolve()

    def read(self, path: str) -> bytes:
        """Return a file's bytes; a relative path begins at the folder. Blocks. Raises ToolError."""
        if self._root is None:
            raise ToolError(_NO_FILES)
        try:
            found = (self._root / path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
            raise ToolError(_NO_FILE) from None
        if not found.is_relative_to(self._root):
            raise ToolError(_OUTSIDE)
        try:
            return _read_regular(found)
        except OSError:
            raise ToolError(_NO_FILE) from None


def _read_regular(path: Path) -> bytes:
    # O_NONBLOCK: opening a pipe would wait for its writer. O_NOFOLLOW: the last part may have become a link by now.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ToolError(_NO_FILE)
        if status.st_size > LARGEST_BYTES:
            raise ToolError(_TOO_LARGE)
        return file.read(LARGEST_BYTES)
