"""Signs URLs that open one image or stream for some minutes, for EventSource and <img>, which cannot send a header.

A signature is an HMAC-SHA256 over method, path, owner, scope, key id and expiry, and over the parameters that choose a
rendition. It ends at its expiry, with the key that made it, and with the secret. The rest of the query is not signed,
so no other parameter may give more than the path.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, urlencode

from services.gateway.access.principal import KeyScope
from services.gateway.access.watched_file import WatchedFile
from shared.errors import ConfigError
from shared.subjects import TOKEN
from shared.webhooks import derive_address_key, sign_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from services.gateway.access.principal import Principal

PARAMETER = "signature"
INVALID_URL = "The signed URL is not valid."
SKEW_S = 60.0
"""Seconds by which the clocks of two gateways may differ."""
_SECRET_CHARACTERS = 32
_SIGNABLE = re.compile(
    rf"/v1/jobs/{TOKEN}/(events|result)|/v1/images/[0-9a-f]{{64}}|/api/generate/(stream|result-image)/{TOKEN}"
    rf"|/api/debug/sessions/{TOKEN}/(download|images/[a-zA-Z0-9_.]{{1,64}})"
    rf"|/api/visualization/{TOKEN}/(original|generated|download)"
)
_WITH_RENDITIONS = re.compile(rf"/v1/jobs/{TOKEN}/result|/v1/images/[0-9a-f]{{64}}")
_RENDITION = {
    "format": re.compile("original|png|jpeg|webp|avif"),
    "quality": re.compile("[1-9][0-9]?|100"),
    "gps": re.compile("keep|drop"),
}
_OF_WEBHOOK = "webhook"
_SENT_BY_WEBHOOKS = re.compile(rf"/v1/jobs/{TOKEN}/result")


class BadSignature(Exception):
    """The URL is invalid or has expired; the message is a sentence for the client."""


def is_signable(path: str) -> bool:
    """Return whether the path leads to an image or a stream; nothing else can be signed.

    The path of a result or an image may have a query that chooses a rendition.
    """
    resource, mark, query = path.partition("?")
    if not mark:
        return _SIGNABLE.fullmatch(resource) is not None
    sent = parse_qsl(query, keep_blank_values=True)
    is_whole = len(dict(sent)) == len(sent) and dict(sent).keys() <= _RENDITION.keys()
    return is_whole and _WITH_RENDITIONS.fullmatch(resource) is not None and _rendition_of(resource, query) is not None


def drop_place(path: str) -> str:
    """Return the path of a rendition with `gps=drop` unless it has `gps`; return other paths unchanged."""
    sent = dict(parse_qsl(path.partition("?")[2]))
    return f"{path}&gps=drop" if "format" in sent and "gps" not in sent else path


def _rendition_of(resource: str, query: str) -> str | None:
    """Return the parameters that choose a rendition, in the order of their names; None if one is not valid."""
    if not _WITH_RENDITIONS.fullmatch(resource):
        return ""
    sent = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items() if name in _RENDITION}
    if not all(_RENDITION[name].fullmatch(value) for name, value in sent.items()):
        return None
    return urlencode(sorted(sent.items()))


def read_secrets(file: Path) -> tuple[bytes, ...]:
    """Return the secrets, one from each line: the first signs, all verify. Raises ConfigError."""
    try:
        lines = tuple(line.strip() for line in file.read_bytes().splitlines() if line.strip())
    except OSError as error:
        raise ConfigError(f"GATEWAY_SIGNING_KEY_FILE: cannot read {file}: {error.strerror}.") from None
    if not lines or any(len(line) < _SECRET_CHARACTERS for line in lines):
        rule = f"needs a secret of {_SECRET_CHARACTERS} characters or more on each line"
        raise ConfigError(f"GATEWAY_SIGNING_KEY_FILE: {file} {rule}.")
    return lines


class Signer:
    """Signs URLs for GET and verifies them."""

    def __init__(self, file: Path, lifetime_s: float, clock: Callable[[], float] = time.time) -> None:
        """Read the file. Raises ConfigError. `clock` returns seconds since the epoch."""
        self._secrets = WatchedFile(file, read_secrets, clock)
        self._lifetime_s = lifetime_s
        self._clock = clock

    def sign(self, principal: Principal, path: str, lifetime_s: float | None = None) -> tuple[str, int]:
        """Return the URL and its expiry in seconds since the epoch, no later than GATEWAY_SIGNED_URL_S from now.

        `path` is one that `is_signable` permits.
        """
        expires = int(self._clock() + min(lifetime_s or self._lifetime_s, self._lifetime_s))
        resource, _, query = path.partition("?")
        signed = _join(resource, _rendition_of(resource, query) or "")
        signature = _sign(self._secrets.content[0], "GET", signed, principal.owner, principal.key_id, str(expires))
        return _join(signed, urlencode({"key": principal.key_id, "expires": expires, PARAMETER: signature})), expires

    @property
    def lifetime_s(self) -> float:
        """The seconds that a signed URL is valid."""
        return self._lifetime_s

    def address_key(self, owner: str, key_id: str, endpoint_id: str) -> str:
        """Return the key with which webhooks to one endpoint sign the addresses of their results."""
        return derive_address_key(self._secrets.content[0], owner, key_id, endpoint_id)

    async def refresh(self) -> None:
        """Check the file of secrets for a change now. See WatchedFile.refresh."""
        await self._secrets.refresh()

    def check(self, method: str, path: str, query: str, find_by_id: Callable[[str], Principal | None]) -> Principal:
        """Return the principal that signed the request. Raises BadSignature.

        `find_by_id` returns the principal of a live key by its id.
        """
        sent = {name: values[-1] for name, values in parse_qs(query).items()}
        principal = find_by_id(sent.get("key", ""))
        expires = sent.get("expires", "")
        if principal is None or not is_signable(path) or not re.fullmatch("[0-9]{1,12}", expires):
            raise BadSignature(INVALID_URL)
        rendition = _rendition_of(path, query)
        if rendition is None:
            raise BadSignature(INVALID_URL)
        signature = sent.get(PARAMETER, "").encode()
        valid = self._signatures(method, _join(path, rendition), principal, expires, sent.get(_OF_WEBHOOK))
        matches = [hmac.compare_digest(signature, each.encode()) for each in valid]
        if not any(matches):
            raise BadSignature(INVALID_URL)
        left_s = int(expires) - self._clock()
        if left_s <= -SKEW_S or left_s > self._lifetime_s + SKEW_S:
            raise BadSignature("The signed URL has expired.")
        return replace(principal, signed=True)

    def _signatures(
        self, method: str, path: str, principal: Principal, expires: str, endpoint_id: str | None
    ) -> list[str]:
        """Return the signature by each secret; `endpoint_id` is that of the webhook that had the URL."""
        owner, key_id = principal.owner, principal.key_id
        if endpoint_id is None:
            return [_sign(secret, method, path, owner, key_id, expires) for secret in self._secrets.content]
        if not (method == "GET" and _SENT_BY_WEBHOOKS.fullmatch(path) and re.fullmatch(TOKEN, endpoint_id)):
            return []
        keys = [derive_address_key(secret, owner, key_id, endpoint_id) for secret in self._secrets.content]
        return [sign_address(key, path, expires) for key in keys]


def _join(path: str, query: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{query}" if query else path


def _sign(secret: bytes, method: str, path: str, owner: str, key_id: str, expires: str) -> str:
    # No field can hold a line break: `is_signable` restricts path and query, the other fields are tokens.
    text = f"artmancer-1\n{method}\n{path}\n{owner}\n{KeyScope.READ}\n{key_id}\n{expires}"
    return base64.urlsafe_b64encode(hmac.digest(secret, text.encode(), hashlib.sha256)).decode().rstrip("=")
