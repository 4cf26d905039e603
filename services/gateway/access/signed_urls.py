"""Addresses that open one thing for a few minutes: EventSource and <img> cannot send a header, so the key is theirs.

A signature is an HMAC-SHA256 over method, path, owner, scope, key id and expiry. It dies with its time, with the key
that asked for it, and with the secret. The rest of the query is not signed: it must not widen what the path gives.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode

from services.gateway.access.principal import KeyScope
from services.gateway.access.watched_file import WatchedFile
from shared.errors import ConfigError
from shared.subjects import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from services.gateway.access.principal import Principal

PARAMETER = "signature"
INVALID_URL = "The signed address is not valid."
SKEW_S = 30.0  # by so much the clocks of two gateways may differ, both ways
_SECRET_CHARACTERS = 32
_SIGNABLE = re.compile(
    rf"/v1/jobs/{TOKEN}/(events|result)|/v1/images/[0-9a-f]{{64}}|/api/generate/(stream|result-image)/{TOKEN}"
    rf"|/api/debug/sessions/{TOKEN}/(download|images/[a-zA-Z0-9_.]{{1,64}})"
    rf"|/api/visualization/{TOKEN}/(original|generated|download)"
)


class BadSignature(Exception):
    """The address opens nothing; the sentence says why."""


def is_signable(path: str) -> bool:
    """Whether the path leads to a picture or a stream, which is all that may be opened by its address."""
    return _SIGNABLE.fullmatch(path) is not None


def read_secrets(file: Path) -> tuple[bytes, ...]:
    """Read a secret from each line: the first signs, all are believed. Raises ConfigError."""
    try:
        lines = tuple(line.strip() for line in file.read_bytes().splitlines() if line.strip())
    except OSError as error:
        raise ConfigError(f"GATEWAY_SIGNING_KEY_FILE: cannot read {file}: {error.strerror}.") from None
    if not lines or any(len(line) < _SECRET_CHARACTERS for line in lines):
        sentence = f"needs a secret of {_SECRET_CHARACTERS} characters or more on each line"
        raise ConfigError(f"GATEWAY_SIGNING_KEY_FILE: {file} {sentence}.")
    return lines


class Signer:
    """Signs addresses for GET, and knows its own again."""

    def __init__(self, file: Path, lifetime_s: float, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigError. `clock` gives seconds since the epoch."""
        self._secrets = WatchedFile(file, read_secrets, clock)
        self._lifetime_s = lifetime_s
        self._clock = clock

    def sign(self, principal: Principal, path: str, lifetime_s: float | None = None) -> tuple[str, int]:
        """Return the address and when it ends, in seconds since the epoch; no later than the setting allows."""
        expires = int(self._clock() + min(lifetime_s or self._lifetime_s, self._lifetime_s))
        signature = _signature(self._secrets.content[0], "GET", path, principal.owner, principal.key_id, str(expires))
        return f"{path}?{urlencode({'key': principal.key_id, 'expires': expires, PARAMETER: signature})}", expires

    async def refresh(self) -> None:
        """Check the file of secrets for a change now. See WatchedFile.refresh."""
        await self._secrets.refresh()

    def check(self, method: str, path: str, query: str, find_by_id: Callable[[str], Principal | None]) -> Principal:
        """Return who has signed this request. `owner_of` names who has a key, if it is live. Raises BadSignature."""
        sent = {name: values[-1] for name, values in parse_qs(query).items()}
        principal = find_by_id(sent.get("key", ""))
        expires = sent.get("expires", "")
        if principal is None or not is_signable(path) or not re.fullmatch("[0-9]{1,12}", expires):
            raise BadSignature(INVALID_URL)
        facts = (method, path, principal.owner, principal.key_id, expires)
        given = sent.get(PARAMETER, "").encode()
        good = [hmac.compare_digest(given, _signature(one, *facts).encode()) for one in self._secrets.content]
        if not any(good):
            raise BadSignature(INVALID_URL)
        left_s = int(expires) - self._clock()
        if left_s <= -SKEW_S or left_s > self._lifetime_s + SKEW_S:
            raise BadSignature("The signed address has expired.")
        return principal


def _signature(secret: bytes, method: str, path: str, owner: str, key_id: str, expires: str) -> str:
    # No field can hold a line break: `is_signable` keeps the path to a few characters, the others are tokens.
    text = f"artmancer-1\n{method}\n{path}\n{owner}\n{KeyScope.READ}\n{key_id}\n{expires}"
    return base64.urlsafe_b64encode(hmac.digest(secret, text.encode(), hashlib.sha256)).decode().rstrip("=")
