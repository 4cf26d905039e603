"""The job manager: sees that every accepted job reaches a worker once and ends once. It never touches pixels."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from services.jobmanager import metrics
from services.jobmanager.dispatcher import Dispatcher
from services.jobmanager.durations import DurationEstimator
from services.jobmanager.projector import Projector
from services.jobmanager.reaper import Reaper
from services.jobmanager.replay import Replay
from shared import declaring, rpc, subjects
from shared.bus import Bus, StoredMessage, open_bus
from shared.errors import BrokerUnavailable
from shared.image_store import NatsImageStore
from shared.lifecycle import race, run_unless_stopped
from shared.listener import serve_probes
from shared.messages import HealthReply, HealthRequest, JobClass, QueueQuery, QueueReport, RedriveRequest, ReplayRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.jobmanager.settings import Settings
    from shared.settings import StreamSettings

NAME = "jobmanager"
_PAUSE_S = 0.5  # before a part starts again that lost its broker or its consumer
log = logging.getLogger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Dispatch, project and reap until told to stop; whatever is not settled by then is delivered again."""
    async with serve_probes(settings.probe, stop) as probes, open_bus(settings.nats, NAME, wait=False) as bus:
        probes.require(bus.ping)
        await run_unless_stopped(stop, _declare_at_last(bus, settings.streams))
        estimator = DurationEstimator()
        projector, reaper, images = Projector(bus, estimator), Reaper(bus), NatsImageStore(bus)
        dispatchers = {job_class: Dispatcher(bus, images, job_class, estimator, settings) for job_class in JobClass}
        for job_class, dispatcher in dispatchers.items():
            metrics.watch(job_class, dispatcher.board)
        endpoints = _endpoints(bus, list(dispatchers.values()), settings.instance)
        async with rpc.serve(bus, NAME, endpoints, drain_s=settings.drain_s), asyncio.TaskGroup() as group:
            parts: dict[str, Callable[[], Awaitable[None]]] = {
                **{f"dispatch-{job_class}": dispatcher.run for job_class, dispatcher in dispatchers.items()},
                "project": projector.run,
                "reap": reaper.run,
                "declare": _Declaration(bus, settings.streams).keep,
            }
            tasks = [
                group.create_task(_keep_going(name, part, bus, settings), name=name) for name, part in parts.items()
            ]
            probes.mark_started()
            await stop.wait()
            for task in tasks:
                task.cancel()


async def _declare_at_last(bus: Bus, streams: StreamSettings) -> None:
    """Declare everything, as soon as the broker can: it may hang, elect a leader, or lack JetStream or a permission."""
    await bus.wait_until_open()
    told = False
    while True:
        try:
            return await declaring.declare_streams(bus, streams)
        except BrokerUnavailable:
            if not told:
                log.warning("jobmanager.not-declared")
            told = True
        await asyncio.sleep(_PAUSE_S)


class _Declaration:
    """Makes anew what somebody deletes: nobody else may, and workers wait for it."""

    def __init__(self, bus: Bus, streams: StreamSettings) -> None:
        self._bus = bus
        self._streams = streams
        self._due = asyncio.Event()
        self._connect = bus.connects

    async def keep(self) -> None:
        """Declare after each deletion, and after each reconnect: it may be another broker. Raises BrokerUnavailable."""
        hear = self._bus.subscribe
        async with hear(subjects.STREAM_DELETED, self._note), hear(subjects.CONSUMER_DELETED, self._note):
            while True:
                await race(self._due.wait(), self._bus.next_connect(self._connect))
                self._due.clear()
                self._connect = self._bus.connects
                try:
                    await declaring.declare_streams(self._bus, self._streams)
                    await asyncio.sleep(_PAUSE_S)  # what is just being deleted may have been found still there
                    await declaring.declare_streams(self._bus, self._streams)
                except BrokerUnavailable:
                    self._due.set()  # or nobody would try again before the next deletion
                    raise

    def _note(self, _: StoredMessage) -> None:
        self._due.set()


async def _keep_going(name: str, part: Callable[[], Awaitable[None]], bus: Bus, settings: Settings) -> None:
    """Run one part for ever: a lost broker or a deleted consumer is mended, any other error stops the service."""
    while True:
        try:
            await part()
        except* BrokerUnavailable:  # alone, or out of a task group
            log.warning("jobmanager.part-interrupted", extra={"part": name})
        await asyncio.sleep(_PAUSE_S)
        await bus.up.wait()
        try:
            await declaring.declare_streams(bus, settings.streams)
        except BrokerUnavailable:
            log.warning("jobmanager.not-mended", extra={"part": name})


def _endpoints(bus: Bus, dispatchers: list[Dispatcher], instance: str) -> list[rpc.Endpoint[Any]]:
    async def health(_: HealthRequest) -> HealthReply:
        return HealthReply(service=NAME, instance=instance, status="healthy")

    async def queue(_: QueueQuery) -> QueueReport:
        waiting: defaultdict[str, list[str]] = defaultdict(list)
        for dispatcher in dispatchers:
            for user, job_id in await dispatcher.waiting():
                waiting[user].append(job_id)
        return QueueReport(queued=dict(waiting))

    replay = Replay(bus)
    return [
        rpc.Endpoint(subjects.health(NAME), HealthRequest, health),
        rpc.Endpoint(subjects.JOB_QUEUE, QueueQuery, queue),
        rpc.Endpoint(subjects.JOB_REPLAY, ReplayRequest, replay.replay),
        rpc.Endpoint(subjects.JOB_REDRIVE, RedriveRequest, replay.redrive),
    ]
