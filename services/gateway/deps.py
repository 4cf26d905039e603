"""The parts of the gateway, made once by app.py, as FastAPI dependencies of the routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from services.gateway.access.principal import KeyScope, Principal
from services.gateway.http.sse import Reader
from shared.errors import Unavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from services.gateway.access.authentication import Authenticator
    from services.gateway.access.key_limits import StreamLimits
    from services.gateway.access.ownership import Ownership
    from services.gateway.core.admission import Admission
    from services.gateway.core.durability import Durability
    from services.gateway.core.feed import Feed
    from services.gateway.core.fullness import Fullness
    from services.gateway.core.jobs import Jobs
    from services.gateway.core.stores import Stores
    from services.gateway.core.system_health import SystemHealth
    from services.gateway.core.uploads import Uploads
    from services.gateway.core.workers import Workers
    from services.gateway.decoding.decoders import Decoders
    from services.gateway.limits.newest import NewestOnly
    from services.gateway.settings import Settings
    from services.gateway.v1.results.chains import Chains
    from services.gateway.v1.results.renditions import Renditions
    from services.gateway.webhooks.endpoints import Endpoints
    from services.gateway.webhooks.key_watch import KeyWatch
    from shared.bus import Bus
    from shared.image_store import StreamedStore


@dataclass(frozen=True, slots=True)
class Deps:
    """The gateway's parts."""

    settings: Settings
    bus: Bus
    images: StreamedStore
    ownership: Ownership
    decoders: Decoders
    uploads: Uploads
    stores: Stores
    chains: Chains
    renditions: Renditions
    feed: Feed
    admission: Admission
    jobs: Jobs
    durability: Durability
    fullness: Fullness
    system: SystemHealth
    workers: Workers
    newest_previews: NewestOnly
    stream_limits: StreamLimits
    webhooks: Endpoints
    webhook_key_watch: KeyWatch
    authenticator: Authenticator | None
    """None on an open gateway."""
    declared: asyncio.Event
    """Set while all declared streams exist."""

    def url_signer(self, principal: Principal) -> Callable[[str], str]:
        """Return a function that signs a path, so that it opens without a header; `str` if keys are not required."""
        if self.authenticator is None or not principal.may(KeyScope.READ):
            return str
        signer = self.authenticator.signer
        return lambda path: signer.sign(principal, path)[0]

    def reader(self, principal: Principal) -> Reader:
        """Return the reader of an event stream of this principal."""
        authenticator = self.authenticator

        def may_read() -> bool:
            if authenticator is None:
                return True
            found = authenticator.keys.find_by_id(principal.key_id)
            return found is not None and found.owner == principal.owner

        return Reader(principal.key_id, self.stream_limits, may_read, self.settings.heartbeat_s)

    @property
    def ready(self) -> bool:
        """Return whether the gateway can accept a job now."""
        return self.bus.up.is_set() and self.declared.is_set()

    async def check(self) -> None:
        """Raise Unavailable if the broker could lose an accepted job or store it less safely than declared."""
        await self.bus.ping()
        if not self.declared.is_set():  # first, because `weaknesses` would cache missing streams for ten seconds
            raise Unavailable("The streams are missing; start the job manager, which creates them.")
        if weak := await self.durability.weaknesses():
            raise Unavailable(" ".join(weak))


def deps_of(request: Request) -> Deps:
    """Return the parts, for routes without FastAPI's dependencies: each of these takes as long as a small read."""
    return cast("Deps", request.app.state.deps)


def principal_of(request: Request) -> Principal:
    """Return the principal of the request, for the same routes."""
    return cast("Principal", request.scope["principal"])


# `async`, because FastAPI calls a plain function in a thread, for every request.
async def _deps(request: Request) -> Deps:
    return deps_of(request)


async def _principal(request: Request) -> Principal:
    return principal_of(request)


async def _owner(request: Request) -> str:
    return principal_of(request).owner


InjectedDeps = Annotated[Deps, Depends(_deps)]
CurrentPrincipal = Annotated[Principal, Depends(_principal)]
"""The principal of the request, for routes that check scopes."""
CurrentOwner = Annotated[str, Depends(_owner)]
"""The owner of the request."""
