"""Webhooks from the request for an endpoint to its calls: signed, retried, logged, and ended with their key."""

from __future__ import annotations

import base64
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from standardwebhooks import WebhookVerificationError

from services.gateway.v1.webhooks.schemas import CheckWebhook, JobWebhook
from services.jobmanager import service as jobmanager
from services.jobmanager.settings import Settings as ManagerSettings
from shared import subjects, webhook_subjects
from shared.messages import Cancelled
from shared.settings import NatsSettings
from shared.topology import FAN_OUT, JOB_EV, JOBS, WEBHOOK_Q
from shared.webhook_messages import WebhookDelivery
from tests.gateway import png
from tests.integration.keyed import keyed_gateway
from tests.receiver import LOOPBACK, OK, Receiver, make, status
from tests.v1_client import beside
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.gateway import Client, WorkerByHand
    from tests.integration.keyed import House


@pytest.fixture
async def house(bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path) -> AsyncIterator[House]:
    """Provide a gateway with keys that allows endpoints on this machine."""
    assert bus.is_connected
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path, webhooks=LOOPBACK) as house:
        yield house


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Provide an endpoint."""
    async with Receiver().running() as receiver:
        yield receiver


@asynccontextmanager
async def managing(bus: Bus, nats_url: str, streams: StreamSettings, **changes: Any) -> AsyncIterator[None]:
    """Run a job manager that sends webhooks to this machine and tries again at once."""
    chosen = {"webhooks": LOOPBACK, "webhooks_retry_s": ",".join(["0.05"] * 8), **changes}
    settings = ManagerSettings(nats=NatsSettings(url=nats_url), streams=streams, **chosen)
    async with beside(bus, jobmanager.NAME, jobmanager.run, settings):
        yield


@pytest.fixture
async def manager(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[None]:
    """Run such a job manager."""
    async with managing(bus, nats_url, stream_settings):
        yield


@pytest.fixture
def work(bus: Bus, worker: WorkerByHand) -> WorkerByHand:
    """Return a worker of Alice's jobs."""
    return type(worker)(bus, worker._images, "alice")  # noqa: SLF001


async def attempts(client: Client, endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the log of an endpoint."""
    return list((await client.get(f"/v1/webhooks/{endpoint['id']}/attempts")).json()["attempts"])


@pytest.mark.usefixtures("manager")
async def test_an_endpoint_receives_the_end_of_a_job(house: House, receiver: Receiver, work: WorkerByHand) -> None:
    """Signed both ways, with a result address that opens without a key."""
    endpoint = await make(house.alice, receiver.url)
    await work.queue("j1")
    await work.finish("j1", png("red"))

    (request,) = await receiver.has(1)
    body = request.verified(endpoint["secret"])
    JobWebhook.model_validate_json(request.body)
    assert (body["type"], body["data"]["job_id"], body["data"]["status"]) == ("job.done", "j1", "done")
    signatures = dict(part.split(",") for part in request.headers["webhook-signature"].split())
    public = VerifyKey(base64.b64decode(endpoint["public_key"].removeprefix("whpk_")))
    signed = f"{request.id}.{request.headers['webhook-timestamp']}.".encode() + request.body
    public.verify(signed, base64.b64decode(signatures["v1a"]))
    with pytest.raises(BadSignatureError):
        public.verify(signed + b" ", base64.b64decode(signatures["v1a"]))
    with pytest.raises(WebhookVerificationError):
        request.verified("whsec_" + base64.b64encode(b"x" * 32).decode())
    result = body["data"]["result"]
    fetched = await house.nobody.get(result["url"])
    assert (fetched.status_code, fetched.content) == (200, png("red"))
    assert (await house.nobody.get(result["url"].replace("j1", "j2"))).status_code == 401
    assert (await house.nobody.get(result["url"].replace("result", "events"))).status_code == 401


@pytest.mark.usefixtures("manager")
async def test_a_failed_and_a_cancelled_job_are_sent_to_those_who_want_them(
    house: House, receiver: Receiver, work: WorkerByHand
) -> None:
    """Another event is not sent, and nothing of another owner."""
    endpoint = await make(house.alice, receiver.url, events=["job.failed", "job.cancelled"])
    other = await make(house.bob, receiver.url)
    for name in ("j1", "j2", "j3"):
        await work.queue(name)
    await work.finish("j1")
    await work.fail("j2", "The engine could not finish this job.")
    await work.say(Cancelled(job_id="j3"))

    bodies = {(found := each.verified(endpoint["secret"]))["data"]["job_id"]: found for each in await receiver.has(2)}
    assert bodies["j2"]["data"]["error"] == {
        "code": "engine_failed",
        "message": "The engine could not finish this job.",
    }
    assert (bodies["j3"]["type"], bodies["j3"]["data"]["result"]) == ("job.cancelled", None)
    assert await attempts(house.bob, other) == []


@pytest.mark.usefixtures("manager")
async def test_a_failed_call_is_repeated_with_the_same_id(house: House, receiver: Receiver, work: WorkerByHand) -> None:
    """Sign and log each attempt; a success makes the endpoint count as well again."""
    receiver.answer = lambda _: OK if len(receiver.received) > 2 else status(503)
    endpoint = await make(house.alice, receiver.url)
    await work.queue("j1")
    await work.finish("j1")

    requests = await receiver.has(3)

    async def is_logged() -> bool:
        return len(await attempts(house.alice, endpoint)) == 3

    await wait_until(is_logged, "three attempts are logged")
    assert len({request.id for request in requests}) == 1
    assert all(request.verified(endpoint["secret"]) for request in requests)
    found = await attempts(house.alice, endpoint)
    assert [(each["attempt"], each["status"], each["outcome"]) for each in found] == [
        (3, 204, "delivered"), (2, 503, "retry"), (1, 503, "retry"),
    ]  # fmt: skip
    assert (await house.alice.get(f"/v1/webhooks/{endpoint['id']}")).json()["failing_since"] is None


async def test_deliveries_survive_the_broker_and_the_job_manager(
    house: House, receiver: Receiver, work: WorkerByHand, bus: Bus, nats_url: str, stream_settings: StreamSettings
) -> None:
    """The next job manager sends deliveries of jobs that ended without one, and those that wait for an attempt."""
    receiver.answer = lambda _: status(500)
    endpoint = await make(house.alice, receiver.url)
    await work.queue("j1")
    async with managing(bus, nats_url, stream_settings, webhooks_retry_s="0.05,3600"):
        await work.finish("j1")
        await receiver.has(2)
    await work.queue("j2")
    await work.finish("j2")
    await bus.purge(WEBHOOK_Q, webhook_subjects.delivery("alice", endpoint["id"], "end", "unknown"))

    async with managing(bus, nats_url, stream_settings):
        await receiver.has(3)

        async def waits() -> list[str]:
            return await bus.subjects_in(WEBHOOK_Q, webhook_subjects.deliveries_to("alice", endpoint["id"]))

        assert webhook_subjects.delivery("alice", endpoint["id"], "end", "j1") in await waits()
        receiver.answer = lambda _: OK
        answer = await house.alice.post(f"/v1/webhooks/{endpoint['id']}/redeliver", json={"job_id": "j1"})
        assert answer.status_code == 202, answer.text

        async def is_settled() -> bool:
            return not await waits()

        await wait_until(is_settled, "both were delivered")
        first, again = (
            next(each.id for each in found if b'"job_id":"j1"' in each.body)
            for found in (receiver.received, receiver.received[::-1])
        )
    assert first == again == answer.json()["webhook_id"]


@pytest.mark.usefixtures("manager")
async def test_a_test_is_sent_on_request(house: House, receiver: Receiver) -> None:
    """Once, also when it fails."""
    receiver.answer = lambda _: status(500)
    endpoint = await make(house.alice, receiver.url)
    sent = await house.alice.post(f"/v1/webhooks/{endpoint['id']}/test")

    (request,) = await receiver.has(1)
    assert request.verified(endpoint["secret"])["type"] == "webhook.test"
    CheckWebhook.model_validate_json(request.body)

    async def is_logged() -> bool:
        found = await attempts(house.alice, endpoint)
        return [each["outcome"] for each in found] == ["failed"]

    await wait_until(is_logged, "the test is logged")
    assert sent.json()["webhook_id"] == request.id


@pytest.mark.usefixtures("manager")
async def test_an_endpoint_that_is_gone_is_disabled_until_a_test_succeeds(
    house: House, receiver: Receiver, work: WorkerByHand
) -> None:
    """410 means that the endpoint wants no more."""
    receiver.answer = lambda _: status(410)
    endpoint = await make(house.alice, receiver.url)
    path = f"/v1/webhooks/{endpoint['id']}"
    await work.queue("j1")
    await work.finish("j1")

    async def is_disabled() -> bool:
        return (await house.alice.get(path)).json()["disabled_at"] is not None

    await wait_until(is_disabled, "the endpoint is disabled")
    note = (await house.alice.get(path)).json()["note"]
    await work.queue("j2")
    await work.finish("j2")
    receiver.answer = lambda _: OK
    await house.alice.post(f"{path}/test")

    async def is_enabled() -> bool:
        return not await is_disabled()

    await wait_until(is_enabled, "the endpoint is enabled")
    assert note == "Disabled: the endpoint answered 410 Gone."
    assert all(b'"j2"' not in each.body for each in receiver.received)


async def test_an_endpoint_is_disabled_after_days_of_failure(
    house: House, receiver: Receiver, work: WorkerByHand, bus: Bus, nats_url: str, stream_settings: StreamSettings
) -> None:
    """The note has the reason."""
    receiver.answer = lambda _: status(500)
    endpoint = await make(house.alice, receiver.url)
    async with managing(bus, nats_url, stream_settings, webhooks_disable_after_s=0.01):
        await work.queue("j1")
        await work.finish("j1")

        async def noted() -> str:
            return str((await house.alice.get(f"/v1/webhooks/{endpoint['id']}")).json()["note"])

        async def is_disabled() -> bool:
            return "no call has succeeded" in await noted()

        await wait_until(is_disabled, "the endpoint is disabled")
    assert (await noted()).endswith("The endpoint answered 500.")


@pytest.mark.usefixtures("manager")
async def test_a_dead_endpoint_delays_no_other(house: House, receiver: Receiver, work: WorkerByHand) -> None:
    """Not even when many webhooks to it wait and hang."""
    async with Receiver(answer=lambda _: b"").running() as silent:  # it never answers
        await make(house.alice, silent.url)
        endpoint = await make(house.alice, receiver.url)
        for number in range(20):
            await work.queue(f"j{number}")
            await work.fail(f"j{number}", "no")

        requests = await receiver.has(20)
        assert len(silent.received) <= 4
    assert {each.verified(endpoint["secret"])["data"]["job_id"] for each in requests} == {f"j{n}" for n in range(20)}


@pytest.mark.usefixtures("manager")
async def test_many_endpoints_are_called_at_once(house: House, receiver: Receiver, work: WorkerByHand) -> None:
    """The look-ups of their hosts are few at once, and none fails for that."""
    made = [await make(house.alice, receiver.url) for _ in range(12)]
    await work.queue("j1")
    await work.finish("j1")
    await receiver.has(12)

    async def is_logged() -> bool:
        return len([each for endpoint in made for each in await attempts(house.alice, endpoint)]) >= 12

    await wait_until(is_logged, "each call is logged")
    found = [each for endpoint in made for each in await attempts(house.alice, endpoint)]
    assert {(each["attempt"], each["outcome"]) for each in found} == {(1, "delivered")}


@pytest.mark.usefixtures("manager")
async def test_a_full_table_delays_a_delivery_and_loses_none(
    house: House, receiver: Receiver, work: WorkerByHand, bus: Bus
) -> None:
    """The sender deletes deliveries above their owner's share; until then the end of a job waits."""
    endpoint = await make(house.alice, receiver.url)
    filler = webhook_subjects.delivery("bob", "wh_1", "end", "j0")
    await bus.publish(filler, WebhookDelivery(by="other", due_at=time.time() + 3600))
    streams = bus.client.jetstream()
    config = (await streams.stream_info(WEBHOOK_Q)).config
    config.max_msgs = 1
    await streams.update_stream(config)
    await work.queue("j1")
    await work.finish("j1")

    async def tries() -> int:
        return int((await streams.consumer_info(JOB_EV, FAN_OUT)).delivered.consumer_seq)

    async def is_known() -> bool:
        return await bus.first(JOBS, subjects.job_record_anywhere("j1")) is not None

    async def is_tried_again() -> bool:
        return await tries() > before

    await wait_until(is_known, "the job is known")
    before = await tries() + 1  # one of which the job was not known yet
    await wait_until(is_tried_again, "the end has found the table full")
    await bus.purge(WEBHOOK_Q, filler)

    (request,) = await receiver.has(1)
    assert request.verified(endpoint["secret"])["data"]["job_id"] == "j1"
    assert [each["outcome"] for each in await attempts(house.alice, endpoint)] in ([], ["delivered"])


@pytest.mark.usefixtures("manager")
async def test_only_the_owner_sends_a_job_again(house: House, receiver: Receiver, work: WorkerByHand) -> None:
    """And only one that has ended."""
    endpoint = await make(house.bob, receiver.url)
    own = await make(house.alice, receiver.url)
    await work.queue("j1")

    async def redeliver(client: Client, endpoint_id: str, job_id: str) -> int:
        path = f"/v1/webhooks/{endpoint_id}/redeliver"
        return (await client.post(path, json={"job_id": job_id})).status_code

    async def is_known() -> bool:
        return await redeliver(house.alice, own["id"], "j1") == 409

    await wait_until(is_known, "the job is known and has not ended")
    assert await redeliver(house.bob, endpoint["id"], "j1") == 404
    assert await redeliver(house.alice, own["id"], "unknown") == 404
    await work.fail("j1", "no")
    assert await redeliver(house.alice, endpoint["id"], "j1") == 404
    assert await redeliver(house.alice, own["id"], "j1") == 202


async def test_a_deleted_job_is_not_sent_again(
    house: House, receiver: Receiver, work: WorkerByHand, bus: Bus, nats_url: str, stream_settings: StreamSettings
) -> None:
    """A body would have the hash and the address of a result that its owner has deleted; a cancellation has neither."""
    receiver.answer = lambda _: status(500)
    endpoint = await make(house.alice, receiver.url)
    retry = webhook_subjects.delivery("alice", endpoint["id"], "end", "j1")
    await work.queue("j1")
    async with managing(bus, nats_url, stream_settings, webhooks_retry_s="3600"):
        await work.finish("j1")
        await receiver.has(1)
        assert (await house.alice.delete("/v1/jobs/j1?purge=true")).status_code == 204
        await bus.publish(retry, WebhookDelivery(attempts=1))  # it is due at once

        async def is_dropped() -> bool:
            return await bus.last(WEBHOOK_Q, retry) is None

        await wait_until(is_dropped, "the retry is dropped")
        await work.queue("j2")

        async def is_deleted() -> bool:
            return (await house.alice.delete("/v1/jobs/j2?purge=true")).status_code == 204

        await wait_until(is_deleted, "the other job is known, and deleted")
        requests = await receiver.has(2)
    assert [b'"job_id":"j1"' in each.body for each in requests] == [True, False]
    assert requests[1].verified(endpoint["secret"])["type"] == "job.cancelled"


@pytest.mark.usefixtures("manager")
async def test_no_log_has_a_secret(
    house: House, receiver: Receiver, work: WorkerByHand, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither that of the endpoint nor the URL, nor a signature, also when calls fail."""
    receiver.answer = lambda _: OK if len(receiver.received) > 1 else status(500)
    with caplog.at_level(logging.DEBUG):
        endpoint = await make(house.alice, receiver.url + "?token=hush")
        await work.queue("j1")
        await work.finish("j1")
        requests = await receiver.has(2)
    signature = requests[0].headers["webhook-signature"].split()[0]

    text = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert not [word for word in (endpoint["secret"], "token=hush", "whsk_", signature) if word in text]
