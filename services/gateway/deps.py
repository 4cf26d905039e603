"""What the routes work with, made once by app.py and handed to each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from services.gateway.access.principal import KeyScope, Principal
from shared.errors import Unavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from services.gateway.access.authentication import Authenticator
    from services.gateway.access.ownership import Ownership
    from services.gateway.core.admission import Admission
    from services.gateway.core.durability import Durability
    from services.gateway.core.feed import Feed
    from services.gateway.core.jobs import Jobs
    from services.gateway.core.system_health import SystemHealth
    from services.gateway.core.uploads import Uploads
    from services.gateway.settings import Settings
    from shared.bus import Bus
    from shared.image_store import ImageStore


@dataclass(frozen=True, slots=True)
class Deps:
    """The gateway's parts."""

    settings: Settings
    bus: Bus
    images: ImageStore
    ownership: Ownership
    uploads: Uploads
    feed: Feed
    admission: Admission
    jobs: Jobs
    durability: Durability
    system: SystemHealth
    authenticator: Authenticator | None
    """What lets people in; None: everybody may come."""
    declared: asyncio.Event
    """Set while the broker is known to have all that is declared."""

    def url_signer(self, principal: Principal) -> Callable[[str], str]:
        """Return what turns an address into one that opens without a header, where headers are asked for."""
        if self.authenticator is None or not principal.may(KeyScope.READ):
            return str
        signer = self.authenticator.signer
        return lambda path: signer.sign(principal, path)[0]

    @property
    def ready(self) -> bool:
        """Whether a job could be accepted now."""
        return self.bus.up.is_set() and self.declared.is_set()

    async def check(self) -> None:
        """Raise Unavailable where an accepted job would not be kept as safely as declared, or not at all."""
        await self.bus.ping()
        if not self.declared.is_set():  # first: what is missing now would be remembered for ten seconds
            raise Unavailable("The streams are not there yet: the job manager makes them.")
        if weak := await self.durability.weaknesses():
            raise Unavailable(" ".join(weak))


# Not `def`: FastAPI would call that in a thread, for every request.
async def _deps(request: Request) -> Deps:
    return cast("Deps", request.app.state.deps)


async def _principal(request: Request) -> Principal:
    return cast("Principal", request.scope["principal"])


async def _owner(request: Request) -> str:
    return cast("Principal", request.scope["principal"]).owner


InjectedDeps = Annotated[Deps, Depends(_deps)]
CurrentPrincipal = Annotated[Principal, Depends(_principal)]
"""Who asks, and what their key is good for."""
CurrentOwner = Annotated[str, Depends(_owner)]
"""Whose request it is; jobs are bound to their user."""
