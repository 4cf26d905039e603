"""Protects a gateway without keys from web pages.

A browser sends any page's requests to loopback, so a foreign page could submit, upload and cancel: its Origin is
checked. With DNS rebinding, a foreign page's host name resolves to this machine. Its Origin then looks like ours, and
it could also read: so Host is checked first.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from services.gateway.access.principal import LOCAL
from services.gateway.error_responses import error_response

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK = r"(localhost|127(\.\d{1,3}){3}|\[::1\])"
LOOPBACK_ORIGIN = rf"https?://{_LOOPBACK}(:\d{{1,5}})?"
"""A pattern of the origins of pages that come from the user's own machine."""
_LOOPBACK_NAME = re.compile(_LOOPBACK)
_LOOPBACK_PAGE = re.compile(LOOPBACK_ORIGIN)
_PORT = re.compile(r":\d*$")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_HOST = "The header Host is missing."
_FOREIGN_HOST = "This gateway does not serve that host name. Its operator can add it to GATEWAY_ALLOWED_HOSTS."
_FOREIGN_ORIGIN = (
    "Pages of that origin may not change anything here. The operator can add it to GATEWAY_ALLOWED_ORIGINS."
)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can connect to this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class OpenAccessMiddleware:
    """ASGI middleware of a gateway without keys. It sets `scope["principal"]` and responds 400, 403 and 421 itself."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str]) -> None:
        """`hosts` and `origins` are allowed in addition to loopback; * allows any."""
        self._app = app
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        scope["principal"] = LOCAL
        refusal = self._find_refusal(scope["method"], Headers(scope=scope))
        await (error_response(scope["path"], *refusal) if refusal else self._app)(scope, receive, send)

    def _find_refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Return the status and the sentence of the refusal, None for an allowed request."""
        host = headers.get("host", "").lower()
        if not host:
            return 400, _NO_HOST
        if not self._allows_host(_PORT.sub("", host)):
            return 421, _FOREIGN_HOST
        is_safe = method in _SAFE_METHODS  # a foreign page cannot read the response: CORS
        if is_safe or all(self._allows_origin(origin, host) for origin in headers.getlist("origin")):
            return None
        return 403, _FOREIGN_ORIGIN

    def _allows_host(self, name: str) -> bool:
        return bool(_LOOPBACK_NAME.fullmatch(name)) or name in self._hosts or "*" in self._hosts

    def _allows_origin(self, origin: str, host: str) -> bool:
        # The scheme may differ: a proxy that ends TLS passes the request on over HTTP.
        if origin in {f"http://{host}", f"https://{host}"} or _LOOPBACK_PAGE.fullmatch(origin):
            return True
        return origin in self._origins or "*" in self._origins
