"""Authorizes requests. Every path requires a key unless it is listed here, so a new path is closed by default."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from services.gateway.access.authentication import NO_KEY
from services.gateway.access.principal import KeyScope
from services.gateway.error_responses import error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from services.gateway.access.authentication import Authenticator

_PAGES = ("/static/", "/v1/docs/assets/")  # files of the program
_OPEN = frozenset(
    {"/", "/service-worker.js", "/v1/docs", "/v1/openapi.json", "/v1/samples", "/api", "/api/", "/api/health"}
)
_SUMMARIES = frozenset({"/api/system/health", "/v1/health"})  # details need the scope `admin`
_EXCEPTIONS = {
    ("POST", "/v1/signed-urls"): KeyScope.READ,  # changes nothing
    ("POST", "/api/clear-cache"): KeyScope.ADMIN,
}
_PREVIEW = "/v1/masks/preview"
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_REALM = 'Bearer realm="artmancer"'
_TOO_MANY_REFUSALS = "Too many requests without a valid API key came from this address, please wait a moment."
_TOO_MANY_REQUESTS = "Too many requests came with this API key, please wait a moment."


def required_scope(method: str, path: str) -> KeyScope | None:
    """Return the scope that a request requires, None if it requires no key."""
    if method == "OPTIONS":  # a CORS preflight cannot send a key
        return None
    if method not in _SAFE_METHODS:
        return _EXCEPTIONS.get((method, path), KeyScope.WRITE)
    return None if path in _OPEN or path in _SUMMARIES or path.startswith(_PAGES) else KeyScope.READ


class AuthorizationMiddleware:
    """ASGI middleware of a gateway with keys. It sets `scope["principal"]` and responds 401, 403 and 429 itself."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        authenticator = self._authenticator
        method, path, query = scope["method"], scope["path"], scope["query_string"].decode("latin-1")
        principal, refusal = await authenticator.identify(
            method, path, query, Headers(scope=scope).getlist("authorization")
        )
        scope["principal"] = principal
        required = required_scope(method, path)
        limits = authenticator.preview_limits if path == _PREVIEW else authenticator.limits
        if required is None:
            await self._app(scope, receive, send)
        elif refusal:
            wait_s = authenticator.refusal_limits.count_refusal((scope.get("client") or ("",))[0])
            scope["unlogged"] = wait_s > 0
            answer = _too_many(path, wait_s, _TOO_MANY_REFUSALS) if wait_s else _refuse(path, required, refusal)
            await answer(scope, receive, send)
        elif wait_s := limits.acquire(principal.key_id):
            scope["unlogged"] = limits is authenticator.preview_limits
            await _too_many(path, wait_s, _TOO_MANY_REQUESTS)(scope, receive, send)
        else:
            try:
                app = self._app if principal.may(required) else _refuse(path, required, refusal)
                await app(scope, receive, send)
            finally:
                limits.release(principal.key_id)


def _too_many(path: str, wait_s: float, sentence: str) -> ASGIApp:
    return error_response(path, 429, sentence, headers={"Retry-After": str(math.ceil(wait_s))})


def _refuse(path: str, required: KeyScope, refusal: str) -> ASGIApp:
    """Return the response of RFC 6750 to no key, an invalid key, or a key without the scope."""
    if not refusal:
        realm = f'{_REALM}, error="insufficient_scope", scope="{required}"'
        return error_response(
            path, 403, f"This API key lacks the scope {required}.", headers={"WWW-Authenticate": realm}
        )
    realm = _REALM if refusal == NO_KEY else f'{_REALM}, error="invalid_token"'
    return error_response(path, 401, refusal, headers={"WWW-Authenticate": realm})
