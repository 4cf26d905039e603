"""API keys at rest and at the door: `am_<id>_<secret>`, of which the file has the id and a hash of the secret.

A secret is 256 random bits, so there is no dictionary to try and one SHA-256 is as good as a slow hash, which would
cost 50 ms of every request. The id is for looking up and for logs; it is no secret.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_serializer

from services.gateway.caller import Caller, KeyScope
from services.gateway.watched_file import WatchedFile
from shared.errors import ConfigError
from shared.messages import Token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIVE_KEYS = 2  # of one owner: the old one and the new one, while keys are changed
_KEY = re.compile(r"am_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NO_HASH = "0" * 64  # what an unknown id is compared with


class Key(BaseModel):
    """A key as the file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    owner: Token
    scopes: Annotated[frozenset[KeyScope], Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # of the secret
    created: AwareDatetime
    expires: AwareDatetime | None = None

    @field_serializer("scopes")
    def _in_order(self, scopes: frozenset[KeyScope]) -> list[str]:
        return [scope for scope in KeyScope if scope in scopes]

    def live(self, now: datetime) -> bool:
        """Whether it opens anything."""
        return self.expires is None or now < self.expires


class KeyFile(BaseModel):
    """All keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...] = ()

    def problem(self, now: datetime) -> str:
        """Say what is wrong with the keys taken together; nothing if all is well."""
        ids = Counter(key.id for key in self.keys)
        if twice := [key_id for key_id, times in ids.items() if times > 1]:
            return f"two keys have the id {twice[0]}"
        owners = Counter(key.owner for key in self.keys if key.live(now))
        if many := [owner for owner, number in owners.items() if number > LIVE_KEYS]:
            return f"{many[0]} has more than {LIVE_KEYS} live keys"
        return ""


def read_keys(file: Path) -> KeyFile:
    """Read the file. Raises ConfigError."""
    try:
        found = KeyFile.model_validate_json(file.read_bytes())
        problem = found.problem(datetime.now(UTC))
    except OSError as error:
        raise ConfigError(f"GATEWAY_KEYS_FILE: cannot read {file}: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        problem = " ".join([".".join(str(part) for part in first["loc"]), first["msg"]]).strip()
    if problem:
        raise ConfigError(f"GATEWAY_KEYS_FILE: {file} is not a file of keys: {problem}.")
    return found


def made(owner: str, scopes: frozenset[KeyScope], expires: datetime | None) -> tuple[str, Key]:
    """Make a key; return what its owner sends, which is kept nowhere, and what the file keeps."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    created = datetime.now(UTC).replace(microsecond=0)
    key = Key(id=key_id, owner=owner, scopes=scopes, sha256=_hash(secret), created=created, expires=expires)
    return f"am_{key_id}_{secret}", key


def id_of(text: str) -> str:
    """Return the id in what somebody sent as a key, for the log; nothing if it is not one."""
    match = _KEY.fullmatch(text)
    return match[1] if match else ""


@dataclass(frozen=True, slots=True)
class _Entry:
    sha256: str
    caller: Caller
    expires: float  # seconds since the epoch


class KeyRing:
    """Tells whose key somebody has shown. A check costs two microseconds."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigError. `clock` gives seconds since the epoch."""
        self._clock = clock
        self._file = WatchedFile(file, _by_id, clock)

    def find(self, text: str) -> Caller | None:
        """Return who has this key; None if nobody has it, or not any more."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        entry = self._file.content.get(match[1])
        same = hmac.compare_digest(_hash(match[2]), entry.sha256 if entry else _NO_HASH)
        return self.owner_of(match[1]) if same else None

    def owner_of(self, key_id: str) -> Caller | None:
        """Return who has the key of this id, if it is live."""
        entry = self._file.content.get(key_id)
        return entry.caller if entry and self._clock() < entry.expires else None


def _by_id(file: Path) -> dict[str, _Entry]:
    return {
        key.id: _Entry(
            key.sha256,
            Caller(key.owner, key.id, key.scopes),
            key.expires.timestamp() if key.expires else math.inf,
        )
        for key in read_keys(file).keys
    }


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
