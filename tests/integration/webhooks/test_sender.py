"""The sender of webhooks alone: an owner's share of the table of deliveries, and the remains of an endpoint."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from services.gateway.access.principal import LOCAL
from services.gateway.webhooks.endpoints import Endpoints
from services.jobmanager.webhooks.attempts import Attempts
from services.jobmanager.webhooks.calls import open_caller
from services.jobmanager.webhooks.directory import Directory
from services.jobmanager.webhooks.look_up import SystemResolver
from services.jobmanager.webhooks.retry_rules import RetryRules
from services.jobmanager.webhooks.schedule import Schedule
from services.jobmanager.webhooks.sender import Sender
from shared import webhook_subjects
from shared.messages import Cancelled
from shared.topology import WEBHOOK_LOG, WEBHOOK_Q
from shared.webhook_messages import WebhookEvent
from tests.receiver import LOOPBACK, Receiver
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus

OWNER = LOCAL.owner


@asynccontextmanager
async def sending(bus: Bus, schedule: Schedule) -> AsyncIterator[Directory]:
    """Run a sender with this schedule; yield the endpoints that it knows. The job j1 was cancelled."""
    directory, ends = Directory(bus), {"j1": Cancelled(job_id="j1")}
    resolver = SystemResolver()
    try:
        async with open_caller(resolver, allowed=LOOPBACK.networks, timeout_s=30, at_once=8, ca_file=None) as caller:
            attempts = Attempts(bus, directory, caller.post, ends, RetryRules([60.0], 3600.0), "s1")
            running = asyncio.create_task(Sender(bus, schedule, attempts).run(), name="sender")
            try:
                yield directory
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
    finally:
        resolver.close()


async def test_tests_beyond_the_share_of_an_owner_are_dropped(bus: Bus) -> None:
    """Otherwise tests of an endpoint that never answers could fill the table, and block all webhooks."""
    endpoints = Endpoints(bus, LOOPBACK, None)
    async with Receiver(answer=lambda _: b"").running() as silent:
        endpoint = await endpoints.create(LOCAL, silent.url, list(WebhookEvent), "http://here")
        for _ in range(9):
            await endpoints.send_test(OWNER, endpoint.id)
        async with sending(bus, Schedule(room=4)):

            async def is_dropped() -> bool:
                return len(await endpoints.attempts(OWNER, endpoint.id)) >= 7

            await wait_until(is_dropped, "seven tests are dropped")
            left = await bus.subjects_in(WEBHOOK_Q, webhook_subjects.deliveries_to(OWNER, endpoint.id))
            logged = await endpoints.attempts(OWNER, endpoint.id)

    assert len(left) == 2
    assert {(each.outcome, each.type, each.job_id, each.error) for each in logged} == {
        ("dropped", "webhook.test", None, "Too many deliveries wait; send it again later.")
    }


async def test_an_endpoint_that_is_deleted_during_a_call_leaves_nothing(bus: Bus) -> None:
    """Neither another attempt nor a line in its log."""
    endpoints, schedule = Endpoints(bus, LOOPBACK, None), Schedule()
    async with sending(bus, schedule) as directory:
        async with Receiver(answer=lambda _: b"").running() as silent:
            endpoint = await endpoints.create(LOCAL, silent.url, list(WebhookEvent), "http://here")
            await endpoints.send_again(OWNER, endpoint.id, "j1")
            await silent.has(1)
            await endpoints.delete(OWNER, endpoint.id)
            directory.clear()
        subject = webhook_subjects.delivery(OWNER, endpoint.id, "end", "j1")
        await wait_until(lambda: subject not in schedule, "the call has ended")

    assert await bus.subjects_in(WEBHOOK_Q, webhook_subjects.ALL_DELIVERIES) == []
    assert await bus.subjects_in(WEBHOOK_LOG, webhook_subjects.ALL_ATTEMPTS) == []
