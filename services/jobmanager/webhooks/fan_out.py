"""Turns the end of each job into one delivery for each endpoint of its owner that wants the event."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from cachetools import LRUCache

from services.jobmanager.webhooks.attempts import log_dropped
from services.jobmanager.webhooks.payload import MESSAGE_CHARACTERS, event_of
from shared import declaring, jobs, subjects, versions, webhook_subjects
from shared.deliveries import consume, redeliver_unsettled
from shared.errors import BrokerUnavailable, StreamFull
from shared.messages import JOB_EVENT, Cancelled, Done, Failed, JobRecord
from shared.reading import read_or_skip
from shared.topology import FAN_OUT, JOB_EV, JOBS, WEBHOOKS
from shared.webhook_messages import WebhookDelivery

if TYPE_CHECKING:
    from services.jobmanager.webhooks.directory import Directory
    from services.jobmanager.webhooks.schedule import Schedule
    from shared.bus import Bus, StoredMessage
    from shared.deliveries import Delivery
    from shared.messages import Terminal
    from shared.webhook_messages import WebhookEndpoint

_CACHED_ENDS = 4096
_FULL_S = 1.0  # the sender deletes deliveries above an owner's share
_RECORD_S, _RECORD_DELIVERIES = 0.25, 20  # the view follows the events within a moment
log = logging.getLogger(__name__)


class FanOut:
    """Reads the ends of jobs. While there is no endpoint at all, it settles them unread."""

    def __init__(self, bus: Bus, schedule: Schedule, directory: Directory, name: str) -> None:
        """Take the name of this sender among its replicas."""
        self.ends: LRUCache[str, Terminal] = LRUCache(_CACHED_ENDS)
        """The last ends by job: the first attempt at each delivery needs no other source."""
        self._bus = bus
        self._schedule = schedule
        self._directory = directory
        self._name = name
        self._has_endpoints = False

    async def run(self) -> None:
        """Fan out until the connection to the broker has been lost and is back. Raises BrokerUnavailable."""
        await declaring.wait_until_declared(self._bus)
        connect = self._bus.connects
        async with (
            self._bus.subscribe(webhook_subjects.LIVE_ENDPOINTS, self._note_endpoint),
            asyncio.TaskGroup() as group,
        ):
            self._directory.clear()
            self._has_endpoints = await self._bus.first(WEBHOOKS, webhook_subjects.ALL_ENDPOINTS) is not None
            group.create_task(self._end_when_reconnected(connect), name="webhooks.reconnect")
            await redeliver_unsettled(self._bus, JOB_EV, FAN_OUT)
            async for arrived in consume(self._bus, JOB_EV, FAN_OUT):
                async with asyncio.TaskGroup() as batch:
                    for delivery in arrived:
                        batch.create_task(self._settle(delivery), name=f"webhooks.fan-out-{delivery.seq}")

    async def _end_when_reconnected(self, connect: int) -> None:
        """Start over: endpoints created meanwhile were missed, and acks were lost."""
        await self._bus.next_connect(connect)
        raise BrokerUnavailable

    def _note_endpoint(self, stored: StoredMessage) -> None:
        self._has_endpoints = True
        self._directory.note_change(stored)

    async def _settle(self, delivery: Delivery) -> None:
        if not self._has_endpoints:
            await delivery.ack_nowait()
            return
        end = jobs.parse_event(delivery)
        if end is None and versions.is_newer(JOB_EVENT, delivery.data):
            await delivery.retry(versions.HAND_BACK_S)
            return
        if isinstance(end, Done | Failed | Cancelled):
            record = read_or_skip(JobRecord, await self._bus.first(JOBS, subjects.job_record_anywhere(end.job_id)))
            if record is None and delivery.attempt < _RECORD_DELIVERIES:
                await delivery.retry(_RECORD_S)
                return
            try:
                if record is not None:
                    await self._fan_out(end, record.user, delivery.seq)
            except StreamFull:
                await delivery.retry(_FULL_S)
                return
        await delivery.ack_nowait()

    async def _fan_out(self, end: Terminal, owner: str, seq: int) -> None:
        self.ends[end.job_id] = _shorten(end)
        for endpoint in await self._endpoints_for(end, owner, seq):
            await self._add(end, endpoint)

    async def _endpoints_for(self, end: Terminal, owner: str, seq: int) -> list[WebhookEndpoint]:
        return [
            target.endpoint
            for target in (await self._directory.endpoints_of(owner)).values()
            if event_of(end) in target.endpoint.events
            and seq > target.endpoint.after_seq
            and target.state.disabled_at is None
        ]

    async def _add(self, end: Terminal, endpoint: WebhookEndpoint) -> None:
        """Store a delivery, unless the owner has too many; the log of the endpoint names a dropped one."""
        subject = webhook_subjects.delivery(endpoint.owner, endpoint.id, "end", end.job_id)
        if await self._has_room(endpoint.owner):
            # The id drops the repetition of a delivery that may have succeeded since.
            await self._bus.publish(subject, WebhookDelivery(by=self._name), msg_id=f"{endpoint.id}.{end.job_id}")
        else:
            await log_dropped(self._bus, webhook_subjects.parse_delivery(subject), event_of(end))

    async def _has_room(self, owner: str) -> bool:
        if self._schedule.has_room(owner):
            return True
        self._schedule.keep(owner, await self._directory.endpoints_of(owner))
        return self._schedule.has_room(owner)


def _shorten(end: Terminal) -> Terminal:
    """Return the terminal event with an error as short as in a webhook: thousands of events are kept."""
    if isinstance(end, Failed):
        return end.model_copy(update={"message": end.message[:MESSAGE_CHARACTERS]})
    return end
