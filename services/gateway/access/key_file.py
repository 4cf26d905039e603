"""The file of API keys: `am_<id>_<secret>` each, of which it has the id and a hash of the secret."""

from __future__ import annotations

import secrets
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_serializer

from services.gateway.access.key_ring import hash_secret
from services.gateway.access.principal import KeyScope
from shared.errors import ConfigError, first_invalid
from shared.messages import Token

if TYPE_CHECKING:
    from pathlib import Path

LIVE_KEYS = 2  # of one owner: the old one and the new one, while keys are changed


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
        problem = " ".join(first_invalid(error.errors(include_input=False, include_url=False))).strip()
    if problem:
        raise ConfigError(f"GATEWAY_KEYS_FILE: {file} is not a file of keys: {problem}.")
    return found


def generate_key(owner: str, scopes: frozenset[KeyScope], expires: datetime | None) -> tuple[str, Key]:
    """Make a key; return what its owner sends, which is kept nowhere, and what the file keeps."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    created = datetime.now(UTC).replace(microsecond=0)
    key = Key(id=key_id, owner=owner, scopes=scopes, sha256=hash_secret(secret), created=created, expires=expires)
    return f"am_{key_id}_{secret}", key
