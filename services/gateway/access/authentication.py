"""Authenticates requests by API key or signed URL."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.access.key_format import parse_key_id
from services.gateway.access.key_limits import KeyLimits
from services.gateway.access.key_ring import KeyRing
from services.gateway.access.open_access import is_loopback
from services.gateway.access.principal import ANONYMOUS, Principal
from services.gateway.access.refusal_limits import RefusalLimits
from services.gateway.access.signed_urls import INVALID_URL, PARAMETER, BadSignature, Signer
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.settings import Settings

NO_KEY = "This needs an API key; send it in the header Authorization, after the word Bearer."
_TWO_KEYS = "Send the header Authorization only once."
WRONG_KEY = "The API key is unknown, revoked or expired."
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Authenticator:
    """The keys, the signer and the limits of a gateway that requires keys."""

    keys: KeyRing
    signer: Signer
    limits: KeyLimits
    preview_limits: KeyLimits
    """The limits of POST /v1/masks/preview, which a pointer sends at every move. Other requests do not count here."""
    refusal_limits: RefusalLimits

    async def identify(self, method: str, path: str, query: str, authorization: Sequence[str]) -> tuple[Principal, str]:
        """Return the principal and ""; or a principal without an owner and the sentence of the refusal.

        `authorization` has the values of all Authorization headers. Before a key or signature is refused, the files
        are checked for a change, because the key or the secret may be newer than the last check.
        """
        principal, refusal = self._identify(method, path, query, authorization)
        if refusal == INVALID_URL or (refusal == WRONG_KEY and principal.key_id):
            await self.keys.refresh()
            await self.signer.refresh()
            principal, refusal = self._identify(method, path, query, authorization)
        return principal, refusal

    def _identify(self, method: str, path: str, query: str, authorization: Sequence[str]) -> tuple[Principal, str]:
        if len(authorization) > 1:  # a proxy may have checked the other one
            return ANONYMOUS, _TWO_KEYS
        if authorization:
            scheme, _, text = authorization[0].partition(" ")
            principal = self.keys.find(text.strip(" ")) if scheme.lower() == "bearer" else None
            if principal:
                return principal, ""
            return Principal("", parse_key_id(text.strip(" ")), frozenset()), WRONG_KEY
        if f"{PARAMETER}=" in query:
            try:
                return self.signer.check(method, path, query, self.keys.find_by_id), ""
            except BadSignature as error:
                return ANONYMOUS, str(error)
        return ANONYMOUS, NO_KEY


def create_authenticator(settings: Settings) -> Authenticator | None:
    """Return the authenticator, None for an open gateway. Raises ConfigError.

    A loopback address is open unless there are keys. Any other address is open only by GATEWAY_ACCESS=open.
    """
    local = is_loopback(settings.host)
    if settings.access == "open" or (settings.access is None and local and settings.keys_file is None):
        if not local:
            log.warning("access.open", extra={"host": settings.host})
        return None
    if settings.keys_file is None and settings.access is None:
        raise ConfigError(
            f"Other machines can reach {settings.host}: set GATEWAY_KEYS_FILE to a file of API keys, "
            "or GATEWAY_ACCESS=open to allow requests without a key."
        )
    if settings.keys_file is None or settings.signing_key_file is None:
        missing = "GATEWAY_KEYS_FILE" if settings.keys_file is None else "GATEWAY_SIGNING_KEY_FILE"
        raise ConfigError(f"API keys are required: set {missing} to a file.")
    return Authenticator(
        keys=KeyRing(settings.keys_file),
        signer=Signer(settings.signing_key_file, settings.signed_url_s),
        limits=KeyLimits(
            rate_per_s=settings.key_rate_per_s, burst=settings.key_burst, at_once=settings.key_requests_at_once
        ),
        preview_limits=KeyLimits(
            rate_per_s=settings.key_previews_per_s,
            burst=settings.key_preview_burst,
            at_once=settings.key_requests_at_once,
        ),
        refusal_limits=RefusalLimits(rate_per_s=settings.refusal_rate_per_s, burst=settings.refusal_burst),
    )
