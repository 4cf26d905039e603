"""Finds the principal of an API key in the watched file of keys."""

from __future__ import annotations

import hmac
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.access import key_format
from services.gateway.access.principal import Principal
from services.gateway.access.watched_file import WatchedFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Entry:
    sha256: str
    principal: Principal
    expires: float  # seconds since the epoch


class KeyRing:
    """The keys of a file. A check costs two microseconds."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        """Read the file. Raises ConfigError. `clock` returns seconds since the epoch."""
        self._clock = clock
        self._file = WatchedFile(file, _by_id, clock)

    def find(self, key: str) -> Principal | None:
        """Return the principal of a live key, None for any other text."""
        parts = key_format.parse(key)
        if parts is None:
            return None
        key_id, secret = parts
        entry = self._file.content.get(key_id)
        same = hmac.compare_digest(key_format.hash_secret(secret), entry.sha256 if entry else key_format.NO_HASH)
        return self.find_by_id(key_id) if same else None

    def find_by_id(self, key_id: str) -> Principal | None:
        """Return the principal of the live key with this id, None if there is none."""
        entry = self._file.content.get(key_id)
        return entry.principal if entry and self._clock() < entry.expires else None

    async def refresh(self) -> None:
        """Check the file for a change now. See WatchedFile.refresh."""
        await self._file.refresh()


def _by_id(file: Path) -> dict[str, _Entry]:
    from services.gateway.access.key_file import read_keys  # noqa: PLC0415 (its models cost an open gateway 50 ms)

    return {
        key.id: _Entry(
            key.sha256,
            Principal(key.owner, key.id, key.scopes),
            key.expires.timestamp() if key.expires else math.inf,
        )
        for key in read_keys(file).keys
    }
