"""API keys at the door: `am_<id>_<secret>`.

A secret is 256 random bits, so there is no dictionary to try and one SHA-256 is as good as a slow hash, which would
cost 50 ms of every request. The id is for looking up and for logs; it is no secret.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.access.principal import Principal
from services.gateway.access.watched_file import WatchedFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_KEY = re.compile(r"am_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NO_HASH = "0" * 64  # what an unknown id is compared with


def parse_key_id(text: str) -> str:
    """Return the id in what somebody sent as a key, for the log; nothing if it is not one."""
    match = _KEY.fullmatch(text)
    return match[1] if match else ""


@dataclass(frozen=True, slots=True)
class _Entry:
    sha256: str
    principal: Principal
    expires: float  # seconds since the epoch


class KeyRing:
    """Tells whose key somebody has shown. A check costs two microseconds."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigError. `clock` gives seconds since the epoch."""
        self._clock = clock
        self._file = WatchedFile(file, _by_id, clock)

    def find(self, text: str) -> Principal | None:
        """Return who has this key; None if nobody has it, or not any more."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        entry = self._file.content.get(match[1])
        same = hmac.compare_digest(hash_secret(match[2]), entry.sha256 if entry else _NO_HASH)
        return self.find_by_id(match[1]) if same else None

    async def refresh(self) -> None:
        """Check the file for a change now. See WatchedFile.refresh."""
        await self._file.refresh()

    def find_by_id(self, key_id: str) -> Principal | None:
        """Return who has the key of this id, if it is live."""
        entry = self._file.content.get(key_id)
        return entry.principal if entry and self._clock() < entry.expires else None


def _by_id(file: Path) -> dict[str, _Entry]:
    from services.gateway.access.key_file import read_keys  # noqa: PLC0415 (not before it is needed: models cost 50 ms)

    return {
        key.id: _Entry(
            key.sha256,
            Principal(key.owner, key.id, key.scopes),
            key.expires.timestamp() if key.expires else math.inf,
        )
        for key in read_keys(file).keys
    }


def hash_secret(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
