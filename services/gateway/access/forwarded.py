"""The addresses of trusted proxies: the client's own, and the sub-path below which a proxy publishes the gateway."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope

_HEADER = b"x-forwarded-prefix"
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")  # no dot segment, and never `//`, which names a host
_LONGEST = 200
# Not the scope's root_path: it would add the prefix to each path, and authorization decides by path.
_prefix: ContextVar[str] = ContextVar("prefix", default="")


class ForwardedMiddleware(ProxyHeadersMiddleware):
    """ASGI middleware. It reads X-Forwarded-Prefix as uvicorn reads the other headers: from trusted proxies only."""

    def __init__(self, app: ASGIApp, trusted_proxies: str) -> None:
        super().__init__(cast("ASGI3Application", app), trusted_proxies)

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Pass the request on, with the client's address and scheme."""
        if scope["type"] == "http" and (scope["client"] or ("",))[0] in self.trusted_hosts:  # before uvicorn changes it
            sent = [value.decode("latin-1").strip().rstrip("/") for name, value in scope["headers"] if name == _HEADER]
            if len(sent) == 1 and len(sent[0]) <= _LONGEST and _PREFIX.fullmatch(sent[0]):
                _prefix.set(sent[0])  # ends with the task of the request
        await super().__call__(scope, receive, send)


def public_path(path: str) -> str:
    """Return the address of a path as the client of this request has to call it."""
    return _prefix.get() + path


def own_path(path: str) -> str:
    """Return the gateway's path of an address that `public_path` returned; another path as it is."""
    prefix = _prefix.get()
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def origin_of(request: Request) -> str:
    """Return scheme and host, to stand before a public path."""
    return str(request.base_url).rstrip("/")
