"""How the whole system is: every service is asked at once."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from shared import rpc, subjects
from shared.errors import ArtMancerError
from shared.messages import HealthReply, HealthRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.gateway.core.durability import Durability
    from shared.bus import Bus

_SERVICES = {  # as the client calls them: as they call themselves
    "generation": "a100worker",
    "segmentation": "segmentation",
    "image_utils": "imageutils",
    "job_manager": "jobmanager",
}
_VALID_S = 1.0


class SystemHealth:
    """Asks in full for operators, and at most once a second for everybody else: they are many, and some are unkind."""

    def __init__(
        self, bus: Bus, durability: Durability, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._durability = durability
        self._timeout_s = timeout_s
        self._clock = clock
        self._looking = asyncio.Lock()
        self._found: dict[str, Any] = {}
        self._until = float("-inf")

    async def in_full(self) -> dict[str, Any]:
        """Tell all; `streams` says what the broker keeps less safely than declared."""
        asking = asyncio.gather(*(self._ask(name) for name in _SERVICES.values()))
        answers, weak = await asyncio.gather(asking, self._durability.weaknesses())
        services = dict(zip(_SERVICES, answers, strict=True))
        well = not weak and all(answer["status"] == "healthy" for answer in answers)
        return {"status": "healthy" if well else "degraded", "services": services, "streams": weak}

    async def in_short(self) -> dict[str, Any]:
        """Tell who is well, and no names, engines or reasons."""
        async with self._looking:
            if self._clock() >= self._until:
                report = await self.in_full()
                services = {name: {"status": service["status"]} for name, service in report["services"].items()}
                self._found = {"status": report["status"], "services": services, "streams": []}
                self._until = self._clock() + _VALID_S
            return self._found

    async def _ask(self, service: str) -> dict[str, Any]:
        try:
            reply = await rpc.call(
                self._bus, subjects.health(service), HealthRequest(), HealthReply, timeout_s=self._timeout_s
            )
        except ArtMancerError as error:
            return {"status": "unhealthy", "error": error.message}
        return {"status": reply.status, "instance": reply.instance, **reply.detail}
