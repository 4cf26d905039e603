"""Whether keys are asked for, and of whom a request is that has shown one."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.access.key_format import parse_key_id
from services.gateway.access.key_limits import KeyLimits
from services.gateway.access.key_ring import KeyRing
from services.gateway.access.principal import ANONYMOUS, Principal
from services.gateway.access.refusal_limits import RefusalLimits
from services.gateway.access.signed_urls import INVALID_URL, PARAMETER, BadSignature, Signer
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.settings import Settings

NO_KEY = "This needs an API key; send it in the header Authorization, after the word Bearer."
_TWO_KEYS = "The header Authorization comes more than once."
_WRONG_KEY = "The API key is not known, or not any more."
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Authenticator:
    """What is needed to let people in who have a key."""

    keys: KeyRing
    signer: Signer
    limits: KeyLimits
    refusal_limits: RefusalLimits

    async def identify(self, method: str, path: str, query: str, authorization: Sequence[str]) -> tuple[Principal, str]:
        """Return the principal and ""; or a principal without an owner and the sentence of the refusal.

        `authorization` has the values of all Authorization headers. A key or signature is refused only after a new
        look at the files: it may be younger than the last one.
        """
        principal, refusal = self._identify(method, path, query, authorization)
        if refusal == INVALID_URL or (refusal == _WRONG_KEY and principal.key_id):
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
            return Principal("", parse_key_id(text.strip(" ")), frozenset()), _WRONG_KEY
        if f"{PARAMETER}=" in query:
            try:
                return self.signer.check(method, path, query, self.keys.find_by_id), ""
            except BadSignature as error:
                return ANONYMOUS, str(error)
        return ANONYMOUS, NO_KEY


def create_authenticator(settings: Settings) -> Authenticator | None:
    """Return the authenticator; None where everybody may come in. Raises ConfigError.

    What only this machine reaches is open, unless there are keys; what others reach is open only if somebody says so.
    """
    near = _is_loopback(settings.host)
    if settings.access == "open" or (settings.access is None and near and settings.keys_file is None):
        if not near:
            log.warning("access.open", extra={"host": settings.host})
        return None
    if settings.keys_file is None and settings.access is None:
        raise ConfigError(
            f"Others can reach {settings.host}: set GATEWAY_KEYS_FILE to a file of API keys, "
            "or GATEWAY_ACCESS=open to let everybody in."
        )
    if settings.keys_file is None or settings.signing_key_file is None:
        missing = "GATEWAY_KEYS_FILE" if settings.keys_file is None else "GATEWAY_SIGNING_KEY_FILE"
        raise ConfigError(f"API keys are asked for, and the setting {missing} names no file.")
    return Authenticator(
        keys=KeyRing(settings.keys_file),
        signer=Signer(settings.signing_key_file, settings.signed_url_s),
        limits=KeyLimits(
            rate_per_s=settings.key_rate_per_s, burst=settings.key_burst, at_once=settings.key_requests_at_once
        ),
        refusal_limits=RefusalLimits(rate_per_s=settings.refusal_rate_per_s, burst=settings.refusal_burst),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
