"""The middleware around the app, in order, and the CORS headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware

from services.gateway.access.audit_log import AuditMiddleware
from services.gateway.access.authorization import AuthorizationMiddleware
from services.gateway.access.open_access import LOOPBACK_ORIGIN, OpenAccessMiddleware
from services.gateway.http.body_limit import BodyLimit
from services.gateway.limits.body_budget import BodyBudget

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from services.gateway.access.authentication import Authenticator
    from services.gateway.http.startup_shell import StartupShell
    from services.gateway.settings import Settings

_EXPOSED_HEADERS = (
    "Content-Range", "ETag", "Location", "Retry-After", "WWW-Authenticate", "X-Engine", "X-Notes", "X-Patch-X",
    "X-Patch-Y", "X-Request-Id", "X-Score", "traceresponse",
)  # fmt: skip
_ALLOWED_HEADERS = (
    "Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Range", "X-Request-Id",
    "traceparent",
)  # fmt: skip


def add_middleware(shell: StartupShell, settings: Settings, authenticator: Authenticator | None) -> ASGIApp:
    """Wrap the app in the middleware that applies to every response.

    From outside in: audit log and request id, CORS (also for refusals), authorization or the checks of an open gateway,
    the limits of bodies.
    """
    budgeted = BodyBudget(
        shell,
        limit_bytes=settings.max_body_bytes,
        at_once=settings.bodies_at_once,
        wait_s=settings.body_wait_s,
        pause_timeout_s=settings.patience_s,
        rate_bytes_per_s=settings.body_rate_bytes_per_s,
    )
    limited = BodyLimit(budgeted, settings.max_body_bytes)
    with_cors = CORSMiddleware(
        OpenAccessMiddleware(limited, settings.hosts, settings.origins)
        if authenticator is None
        else AuthorizationMiddleware(limited, authenticator),
        allow_origins=settings.origins,
        allow_origin_regex=LOOPBACK_ORIGIN if authenticator is None else None,
        allow_methods=("GET", "HEAD", "POST", "DELETE", "OPTIONS"),
        allow_headers=_ALLOWED_HEADERS,
        expose_headers=_EXPOSED_HEADERS,
        max_age=3600,
    )
    return AuditMiddleware(with_cors, lambda: shell.routes, writes=authenticator is not None)
