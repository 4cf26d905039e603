"""The JSON file of API keys. It holds the id and a hash of the secret of each key."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_serializer

from services.gateway.access import key_format
from services.gateway.access.principal import KeyScope
from shared.errors import ConfigError, first_invalid
from shared.messages import Token

if TYPE_CHECKING:
    from pathlib import Path

LIVE_KEYS = 2
"""Live keys of an owner: the old one and the new one during a change of keys."""


class Key(BaseModel):
    """The entry of a key."""

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

    def is_live(self, now: datetime) -> bool:
        """Return whether the key has not expired."""
        return self.expires is None or now < self.expires


class KeyFile(BaseModel):
    """All keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...] = ()

    def problem(self, now: datetime) -> str:
        """Return a clause about keys that do not fit together, "" if there are none."""
        ids = Counter(key.id for key in self.keys)
        if twice := [key_id for key_id, times in ids.items() if times > 1]:
            return f"two keys have the id {twice[0]}; remove one"
        owners = Counter(key.owner for key in self.keys if key.is_live(now))
        if many := [owner for owner, number in owners.items() if number > LIVE_KEYS]:
            return f"{many[0]} has more than {LIVE_KEYS} live keys; remove one"
        return ""


def read_keys(file: Path) -> KeyFile:
    """Read the file. Raises ConfigError."""
    try:
        found = KeyFile.model_validate_json(file.read_bytes())
        problem = found.problem(datetime.now(UTC))
    except OSError as error:
        raise ConfigError(f"GATEWAY_KEYS_FILE: cannot read {file}: {error.strerror}.") from None
    except ValidationError as error:
        problem = " ".join(first_invalid(error.errors(include_input=False, include_url=False))).strip()
    if problem:
        raise ConfigError(f"GATEWAY_KEYS_FILE: {file} is not valid: {problem}.")
    return found


def generate_key(owner: str, scopes: frozenset[KeyScope], expires: datetime | None) -> tuple[str, Key]:
    """Return a new key as its owner sends it, which is stored nowhere, and its entry for the file."""
    text, key_id, secret = key_format.generate()
    created = datetime.now(UTC).replace(microsecond=0)
    sha256 = key_format.hash_secret(secret)
    return text, Key(id=key_id, owner=owner, scopes=scopes, sha256=sha256, created=created, expires=expires)
