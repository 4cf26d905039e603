"""Any container may die: Docker starts it again, and the system edits as before."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.containers.edits import remove_the_spoon
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.containers.project import Project

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    "service", ["caddy", "gateway", "nats", "segmentation", "imageutils", "jobmanager", "a100worker"]
)
async def test_the_system_edits_after_a_death(client: httpx.AsyncClient, project: Project, service: str) -> None:
    """Killed as a crash would, not stopped as an operator would: that one stays down."""
    name = f"artmancer-{service}-1"
    before = project.container(name)
    os.kill(before.pid, signal.SIGKILL)

    def back() -> bool:
        now = project.container(name)
        return now.running and now.pid not in {0, before.pid}

    async def well() -> bool:
        try:
            answer = await client.get("/api/system/health", timeout=5)
        except httpx.TransportError:
            return False
        return answer.is_success and answer.json()["status"] == "healthy"

    await wait_until(back, f"{service} runs again")
    await wait_until(well, "all are healthy again")
    await remove_the_spoon(client)
