"""Requests that every instance of a service answers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from shared import rpc, subjects
from shared.bus import open_bus
from shared.errors import Busy, Unavailable
from shared.messages import HealthReply, HealthRequest
from shared.rpc import Endpoint, serve
from shared.settings import NatsSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.stack.nats_server import NatsServer
    from shared.bus import Bus

SUBJECT = subjects.health("cook")
FINE = HealthReply(service="cook", instance="c1", status="healthy")


@asynccontextmanager
async def instance(bus: Bus, name: str) -> AsyncIterator[None]:
    """Serve an endpoint that each instance answers."""

    async def describe(_: HealthRequest) -> HealthReply:
        return FINE.model_copy(update={"instance": name})

    async with serve(bus, "cook", [Endpoint(SUBJECT, HealthRequest, describe, everywhere=True)]):
        yield


async def test_every_instance_answers_a_call_to_all(bare_bus: Bus, nats_server: NatsServer) -> None:
    """A plain call to the same endpoint returns one of the replies, as the gateways of earlier releases expect."""
    settings = NatsSettings(url=nats_server.url)
    async with open_bus(settings, "other") as other, instance(bare_bus, "c1"), instance(other, "c2"):
        replies = await rpc.call_all(bare_bus, SUBJECT, HealthRequest(), HealthReply, timeout_s=20, more_s=1)
        one = await rpc.call(bare_bus, SUBJECT, HealthRequest(), HealthReply, timeout_s=20)

    assert sorted(reply.instance for reply in replies) == ["c1", "c2"]
    assert one.instance in {"c1", "c2"}


async def fail(_: HealthRequest) -> HealthReply:
    raise Busy


async def test_one_instance_that_fails_hides_no_other(bare_bus: Bus, nats_server: NatsServer) -> None:
    """If all fail, the caller gets the error."""
    broken = Endpoint(SUBJECT, HealthRequest, fail, everywhere=True)
    async with serve(bare_bus, "cook", [broken]):
        with pytest.raises(Busy):
            await rpc.call_all(bare_bus, SUBJECT, HealthRequest(), HealthReply, timeout_s=20, more_s=0.1)
        async with open_bus(NatsSettings(url=nats_server.url), "other") as other, instance(other, "c2"):
            replies = await rpc.call_all(bare_bus, SUBJECT, HealthRequest(), HealthReply, timeout_s=20, more_s=1)

    assert [reply.instance for reply in replies] == ["c2"]


async def test_a_call_to_all_names_a_service_that_does_not_run(bare_bus: Bus) -> None:
    """At once, as a plain call does."""
    with pytest.raises(Unavailable, match="The service cook is not running"):
        await rpc.call_all(bare_bus, SUBJECT, HealthRequest(), HealthReply, timeout_s=60, more_s=60)
