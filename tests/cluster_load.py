"""A cluster under load: submits that are counted, and the wait until each copy of each stream is up to date."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

import nats.errors

from shared import declaring, subjects
from shared.errors import ArtMancerError, BrokerUnavailable
from shared.topology import JOB_LOG
from tests.chaos.parts import happens
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus
    from shared.settings import StreamSettings

BODY = b'{"task":"white-balance","image":"' + b"ab" * 32 + b'"}'


class Load:
    """Submits jobs, a few at a time, one after the other; each publish has its deadline of 15 s."""

    def __init__(self, bus: Bus, at_once: int = 2, pause_s: float = 0.0) -> None:
        self._bus = bus
        self._at_once = at_once
        self._pause_s = pause_s
        self._running = True
        self.accepted: list[str] = []
        self.errors: list[str] = []

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Load the cluster while the block runs, and until more has been accepted at its end."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._at_once):
                group.create_task(self._submit(number), name=f"submit-{number}")
            await self.goes_on()
            yield
            await self.goes_on()
            self._running = False

    async def goes_on(self) -> None:
        """Wait until submits are accepted; those under way at this moment do not count."""
        enough = len(self.accepted) + 20
        await wait_until(lambda: len(self.accepted) >= enough, "submits are accepted again")

    async def _submit(self, number: int) -> None:
        for job_id in (f"j{number}-{serial}" for serial in count()):
            if not self._running:
                return
            try:
                await self._bus.publish(subjects.submission("interactive", "u1", job_id), BODY, msg_id=job_id)
            except ArtMancerError as error:
                self.errors.append(error.message)
            else:
                self.accepted.append(job_id)
            if self._pause_s:
                await happens(asyncio.Event(), self._pause_s)

    async def lost(self) -> list[str]:
        """Return the accepted jobs that are not in the log exactly once."""
        stored = await self._bus.history(JOB_LOG, subjects.submissions_in("interactive"))
        logged = Counter(subjects.parse_submission(message.subject).job_id for message in stored)
        return [job_id for job_id in self.accepted if logged[job_id] != 1]


async def wait_until_up_to_date(bus: Bus, settings: StreamSettings) -> None:
    """Declare the streams, and wait for three copies of each."""
    await wait_until(lambda: has_leader(bus), "the cluster has elected its leader")
    await wait_until(lambda: is_declared(bus, settings), "each stream has elected one")
    await wait_until(lambda: in_step(bus), "all copies are up to date")


async def has_leader(bus: Bus) -> bool:
    """Return whether the cluster has a leader; before that, no API request gets a reply."""
    try:
        await bus.request(subjects.api("INFO"), timeout_s=0.2)
    except BrokerUnavailable:
        return False
    return True


async def is_declared(bus: Bus, settings: StreamSettings) -> bool:
    """Declare the streams; return whether the cluster could store them."""
    try:
        await declaring.declare_streams(bus, settings)
    except BrokerUnavailable:
        return False
    return True


async def in_step(bus: Bus) -> bool:
    """Whether each stream has a leader and two more copies that are up to date."""
    try:
        infos = await bus.client.jetstream(timeout=2).streams_info()
    except (TimeoutError, nats.errors.Error):  # while it elects, a cluster may also answer that it cannot
        return False
    clusters = [info.cluster for info in infos]
    return all(
        cluster is not None and cluster.leader and [peer.current for peer in cluster.replicas or []] == [True, True]
        for cluster in clusters
    )
