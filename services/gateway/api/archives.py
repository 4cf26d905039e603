"""ZIP archives of images and their metadata, written while they are sent: images have up to 100 MB each."""

from __future__ import annotations

import json
import zipfile
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.responses import Response, StreamingResponse

from services.gateway.core.pieces import prepend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    Entries = dict[str, AsyncGenerator[bytes, None]]
    """The bytes of each image, by file name."""


async def zip_response(name: str, images: Entries, metadata: dict[str, Any]) -> Response:
    """Return a download `{name}.zip` with the images and metadata.json. Raises the errors of the first image."""
    pieces = _write(images, metadata)
    first = await anext(pieces)
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(prepend(first, pieces), media_type="application/zip", headers=headers)


async def _write(images: Entries, metadata: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    written = _Written()
    with zipfile.ZipFile(written, "w") as archive:  # type: ignore[call-overload]  # it needs no more; stored, as PNG is compressed already
        for name, pieces in images.items():
            with archive.open(name, "w") as file:
                async with aclosing(pieces):
                    async for piece in pieces:
                        file.write(piece)
                        yield written.take()
        archive.writestr("metadata.json", json.dumps(metadata, indent=2))
    yield written.take()


class _Written:
    """A write-only file without seeking; `take` returns its bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Add the data."""
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def take(self) -> bytes:
        """Return the bytes written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
