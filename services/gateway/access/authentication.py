"""Whether keys are asked for, and of whom a request is that has shown one."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.gateway.access.key_limits import KeyLimits
from services.gateway.access.key_ring import KeyRing, parse_key_id
from services.gateway.access.principal import ANONYMOUS, Principal
from services.gateway.access.refusal_limits import RefusalLimits
from services.gateway.access.signed_urls import PARAMETER, BadSignature, Signer
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

    def identify(self, method: str, path: str, query: str, shown: Sequence[str]) -> tuple[Principal, str]:
        """Return who asks; if that cannot be told, a caller without an owner, and a sentence that says why not.

        `shown` are the headers Authorization: of two, a proxy and we could believe different ones.
        """
        if len(shown) > 1:
            return ANONYMOUS, _TWO_KEYS
        if shown:
            scheme, _, text = shown[0].partition(" ")
            principal = self.keys.find(text.strip(" ")) if scheme.lower() == "bearer" else None
            return (
                (principal, "")
                if principal
                else (Principal("", parse_key_id(text.strip(" ")), frozenset()), _WRONG_KEY)
            )
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
