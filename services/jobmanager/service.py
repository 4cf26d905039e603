"""The job manager: brings every accepted job to a worker and to exactly one end. It never reads pixels."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from services.jobmanager import metrics
from services.jobmanager.dispatcher import Dispatcher
from services.jobmanager.durations import DurationEstimator
from services.jobmanager.history.holdings import Events, Letters, Records, Sessions
from services.jobmanager.history.retention import Retention
from services.jobmanager.history.shares import Shares
from services.jobmanager.projector import Projector
from services.jobmanager.reaper import Reaper
from services.jobmanager.replay import Replay
from services.jobmanager.watch.broker import BrokerWatch
from services.jobmanager.watch.workers import WorkerWatch
from services.jobmanager.webhooks.sender import open_sender
from shared import declaring, rpc, subjects
from shared.bus import Bus, StoredMessage, open_bus
from shared.errors import BrokerUnavailable, ConfigError, first_of
from shared.image_store import StoredImages
from shared.lifecycle import race, run_unless_stopped
from shared.listener import serve_probes
from shared.messages import HealthReply, HealthRequest, JobClass, QueueQuery, QueueReport, RedriveRequest, ReplayRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from services.jobmanager.history.holdings import Holdings
    from services.jobmanager.settings import Settings
    from shared.settings import StreamSettings

NAME = "jobmanager"
_STEADY_S = 30.0  # a part that ran so long had recovered
_PAUSE_S = 0.5  # before the restart of a part that lost the broker or its consumer
log = logging.getLogger(__name__)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Dispatch, project and reap until `stop` is set. Unsettled messages are delivered again at the next start."""
    try:
        await _run(settings, stop)
    except* ConfigError as errors:
        raise first_of(errors) from None


async def _run(settings: Settings, stop: asyncio.Event) -> None:
    async with (
        serve_probes(settings.probe, stop) as probes,
        open_bus(settings.nats, NAME, wait=False) as bus,
        open_sender(settings) as webhooks,
    ):
        probes.require(bus.ping)
        await run_unless_stopped(stop, _declare_when_possible(bus, settings.streams))
        estimator = DurationEstimator()
        projector, reaper, images = Projector(bus, estimator), Reaper(bus), StoredImages(bus)
        dispatchers = {job_class: Dispatcher(bus, images, job_class, estimator, settings) for job_class in JobClass}
        for job_class, dispatcher in dispatchers.items():
            metrics.watch(job_class, dispatcher.board)
        watch = BrokerWatch(bus, settings.streams)
        facts = {"webhooks": "on" if webhooks else "off: set JOBMANAGER_WEBHOOKS_NKEY_FILE"}
        endpoints = _endpoints(bus, list(dispatchers.values()), watch, settings.instance, facts)
        served = rpc.serve(bus, NAME, endpoints, drain_s=settings.drain_s, metadata={"instance": settings.instance})
        async with served, asyncio.TaskGroup() as group:
            parts: dict[str, Callable[[], Awaitable[None]]] = {
                **{f"dispatch-{job_class}": dispatcher.run for job_class, dispatcher in dispatchers.items()},
                "project": projector.run,
                "reap": reaper.run,
                "retain": Retention(bus).run,
                **_shares(bus, images),
                "watch": watch.run,
                "watch-workers": WorkerWatch(bus, settings.streams.max_deliver).run,
                "declare": _Declaration(bus, settings.streams, dispatchers.values()).run,
                **webhooks,
            }
            tasks = [group.create_task(_restart(name, part, bus, settings), name=name) for name, part in parts.items()]
            probes.mark_started()
            await stop.wait()
            for task in tasks:
                task.cancel()


class _Complaints:
    """Logs each reason once, until `end`: a failed part tries again twice a second."""

    def __init__(self, event: str, **facts: object) -> None:
        self._event = event
        self._facts = facts
        self._logged: set[str] = set()

    def log(self, error: BrokerUnavailable) -> None:
        """Log the error, unless it is known."""
        if error.message not in self._logged:
            self._logged.add(error.message)
            log.warning(self._event, extra={**self._facts, "reason": error.message})

    def end(self) -> None:
        """Log each reason again from now on."""
        self._logged.clear()


async def _declare_when_possible(bus: Bus, streams: StreamSettings) -> None:
    """Declare all streams once the broker can: it may hang, elect a leader, or lack JetStream or a permission."""
    await bus.wait_until_open()
    complaints = _Complaints("jobmanager.not-declared")
    while True:
        try:
            return await declaring.declare_streams(bus, streams)
        except BrokerUnavailable as error:
            complaints.log(error)
        await asyncio.sleep(_PAUSE_S)


class _Declaration:
    """Declares deleted streams and consumers again. No other service may declare, and workers wait for them."""

    def __init__(self, bus: Bus, streams: StreamSettings, dispatchers: Iterable[Dispatcher]) -> None:
        self._bus = bus
        self._streams = streams
        self._dispatchers = dispatchers
        self._due = asyncio.Event()
        self._connect = bus.connects

    async def run(self) -> None:
        """Declare after each deletion, and after each reconnect, which may reach another broker.

        Raises BrokerUnavailable.
        """
        subscribe = self._bus.subscribe
        async with subscribe(subjects.STREAM_DELETED, self._note), subscribe(subjects.CONSUMER_DELETED, self._note):
            while True:
                await race(self._due.wait(), self._bus.next_connect(self._connect))
                self._due.clear()
                self._connect = self._bus.connects
                try:
                    await declaring.declare_streams(self._bus, self._streams)
                    await asyncio.sleep(_PAUSE_S)  # the first call may have found a stream while it was being deleted
                    await declaring.declare_streams(self._bus, self._streams)
                except BrokerUnavailable:
                    self._due.set()  # otherwise the next try would wait for the next deletion
                    raise
                for dispatcher in self._dispatchers:
                    dispatcher.search_lost_jobs()

    def _note(self, _: StoredMessage) -> None:
        self._due.set()


async def _restart(name: str, part: Callable[[], Awaitable[None]], bus: Bus, settings: Settings) -> None:
    """Run one part, and restart it after a lost broker or a deleted consumer. Any other error stops the service."""
    interrupted = _Complaints("jobmanager.part-interrupted", part=name)
    not_declared = _Complaints("jobmanager.not-declared", part=name)
    while True:
        began = time.monotonic()
        try:
            await part()
        except* BrokerUnavailable as errors:  # alone or in the group of a TaskGroup
            if time.monotonic() - began > _STEADY_S:
                interrupted.end()
            interrupted.log(first_of(errors))
        await asyncio.sleep(_PAUSE_S)
        await bus.up.wait()
        try:
            await declaring.declare_streams(bus, settings.streams)
            not_declared.end()
        except BrokerUnavailable as error:
            not_declared.log(error)


def _shares(bus: Bus, images: StoredImages) -> dict[str, Callable[[], Awaitable[None]]]:
    """Return the parts that keep the owners' shares in the streams that drop their oldest messages."""
    holdings: dict[str, Holdings] = {
        "records": Records(bus),
        "events": Events(bus),
        "letters": Letters(bus),
        "sessions": Sessions(bus, images),
    }
    return {f"retain-{name}": Shares(bus, held).run for name, held in holdings.items()}


def _endpoints(
    bus: Bus, dispatchers: list[Dispatcher], watch: BrokerWatch, instance: str, facts: dict[str, str]
) -> list[rpc.Endpoint[Any]]:
    async def health(_: HealthRequest) -> HealthReply:
        status, detail = ("degraded", {"paused": " ".join(watch.sentences)}) if watch.sentences else ("healthy", {})
        return HealthReply(service=NAME, instance=instance, status=status, detail={**facts, **detail})

    async def queue(_: QueueQuery) -> QueueReport:
        waiting: defaultdict[str, list[str]] = defaultdict(list)
        for dispatcher in dispatchers:
            for owner, job_id in await dispatcher.waiting():
                waiting[owner].append(job_id)
        return QueueReport(queued=dict(waiting))

    replay = Replay(bus)
    return [
        rpc.Endpoint(subjects.health(NAME), HealthRequest, health, everywhere=True),
        rpc.Endpoint(subjects.JOB_QUEUE, QueueQuery, queue),
        rpc.Endpoint(subjects.JOB_REPLAY, ReplayRequest, replay.replay),
        rpc.Endpoint(subjects.JOB_REDRIVE, RedriveRequest, replay.redrive),
    ]
