"""The health of the whole system: all services are queried at once."""

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
    from services.gateway.core.fullness import Fullness
    from services.gateway.core.workers import Workers
    from shared.bus import Bus

_SERVICES = {  # the client's name: the service's name on the bus
    "generation": "a100worker",
    "segmentation": "segmentation",
    "image_utils": "imageutils",
    "job_manager": "jobmanager",
}
_VALID_S = 1.0
_MORE_S = 0.1  # after the first reply; the instances reply at once
_CONCERN = ("degraded", "healthy", "starting")  # a starting instance raises no alarm if another one is ready


class SystemHealth:
    """Reports the health of all services: in full for operators, with every instance; in short for everyone else.

    The short report needs no key, so it is cached for a second to limit the load.
    """

    def __init__(
        self,
        bus: Bus,
        durability: Durability,
        fullness: Fullness,
        workers: Workers,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._durability = durability
        self._fullness = fullness
        self._workers = workers
        self._timeout_s = timeout_s
        self._clock = clock
        self._lock = asyncio.Lock()
        self._cached: dict[str, Any] = {}
        self._valid_until = float("-inf")

    async def report(self, *, full: bool) -> dict[str, Any]:
        """Return the health of all services and, as `streams`, a sentence for each weak stream and each full store.

        The short report has no instances, engines, causes or streams.
        """
        return await (self._query_all() if full else self._short_report())

    async def _query_all(self) -> dict[str, Any]:
        queries = asyncio.gather(*(self._query(name) for name in _SERVICES.values()))
        answers, weak = await asyncio.gather(queries, self._durability.weaknesses())
        weak = [*weak, *self._fullness.sentences]
        services = dict(zip(_SERVICES, answers, strict=True))
        self._add_workers(services["generation"])
        healthy = not weak and all(answer["status"] == "healthy" for answer in answers)
        return {"status": "healthy" if healthy else "degraded", "services": services, "streams": weak}

    def _add_workers(self, generation: dict[str, Any]) -> None:
        """List every worker. A worker that takes no job raises no alarm while another one takes jobs."""
        instances = self._workers.instances()
        if instances:
            generation["instances"] = instances
        if {each["state"] for each in instances if each["state"] != "lost"} == {"draining"}:
            generation |= {"status": "unhealthy", "error": "Every worker is drained: restart one."}

    async def _short_report(self) -> dict[str, Any]:
        async with self._lock:
            if self._clock() >= self._valid_until:
                report = await self._query_all()
                services = {name: {"status": service["status"]} for name, service in report["services"].items()}
                self._cached = {"status": report["status"], "services": services, "streams": []}
                self._valid_until = self._clock() + _VALID_S
            return self._cached

    async def _query(self, service: str) -> dict[str, Any]:
        subject = subjects.health(service)
        try:
            replies = await rpc.call_all(
                self._bus, subject, HealthRequest(), HealthReply, timeout_s=self._timeout_s, more_s=_MORE_S
            )
        except ArtMancerError as error:
            return {"status": "unhealthy", "error": error.message}
        instances = [_describe(reply) for reply in sorted(replies, key=lambda reply: reply.instance)]
        worst = min(instances, key=lambda each: _CONCERN.index(each["status"]))
        return worst if len(instances) == 1 else {**worst, "instances": instances}


def _describe(reply: HealthReply) -> dict[str, Any]:
    return {"status": reply.status, "instance": reply.instance, **reply.detail}
