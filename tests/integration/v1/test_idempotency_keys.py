"""POST /v1/jobs with an Idempotency-Key: at most one job for each key, and never a job of another submission."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from shared import subjects
from shared.settings import NatsSettings
from shared.topology import JOB_LOG
from tests.gateway import WorkerByHand, gateway
from tests.v1_client import logged_submission, removal, submit_body

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.gateway import Client


async def test_the_same_submission_under_a_key_is_the_same_job(client: Client, bus: Bus) -> None:
    """For example after a lost response."""
    body = await removal(client)
    first, second = await submit_body(client, body, "k1"), await submit_body(client, body, "k1")

    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["id"] == second.json()["id"]
    assert len(await logged_submission(bus, first.json()["id"])) == 1


@pytest.mark.parametrize("changes", [{"seed": 9}, {"temperature": 9}, {"variant": 1}, {"class": "batch"}], ids=str)
async def test_another_submission_under_a_key_is_refused(client: Client, changes: dict[str, Any]) -> None:
    """For each field that differs."""
    body = await removal(client)
    await submit_body(client, body, "k1")

    answer = await submit_body(client, {**body, **changes}, "k1")

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_input")
    assert "Idempotency-Key" in answer.json()["detail"]


@pytest.mark.parametrize("changes", [{}, {"prompt": "other"}], ids=str)
async def test_a_key_whose_submission_is_gone_is_refused(
    client: Client, bus: Bus, worker: WorkerByHand, changes: dict[str, Any]
) -> None:
    """It could be another submission: then the answer would name the result of the first one."""
    body = await removal(client)
    job_id = (await submit_body(client, body, "k1")).json()["id"]
    await worker.queue(job_id)
    await bus.purge(JOB_LOG, subjects.submissions_of(job_id))

    answer = await submit_body(client, {**body, **changes}, "k1")

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "Idempotency-Key" in answer.json()["detail"]


async def test_an_accepted_job_is_stored_although_the_broker_remembers_its_id(client: Client, bus: Bus) -> None:
    """It answers the id of a deleted message as a duplicate for an hour, and stores nothing."""
    body = await removal(client)
    for changes in ({}, {"prompt": "second"}, {"prompt": "third"}):
        answer = await submit_body(client, {**body, **changes}, "k1")
        (job,) = await logged_submission(bus, answer.json()["id"])
        assert (answer.status_code, job.prompt) == (202, changes.get("prompt", ""))
        await bus.purge(JOB_LOG, subjects.submissions_of(answer.json()["id"]))


async def test_a_full_log_refuses_at_the_door(client: Client, bus: Bus) -> None:
    """The status means "try again later", and accepted submissions stay."""
    body = await removal(client, prompt="x" * 9_000)
    jetstream = bus.client.jetstream()
    await jetstream.update_stream((await jetstream.stream_info(JOB_LOG)).config.evolve(max_bytes=30_000))
    answers = [await submit_body(client, body) for _ in range(5)]
    accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]

    assert [answer.status_code for answer in answers] == [202] * 3 + [429] * 2
    assert answers[-1].json()["code"] == "queue_full"
    assert [len(await logged_submission(bus, job_id)) for job_id in accepted] == [1, 1, 1]


async def test_another_key_is_another_job(client: Client) -> None:
    """The submission is the same."""
    body = await removal(client)
    ids = {(await submit_body(client, body, key)).json()["id"] for key in ("k1", "k2")}

    assert len(ids) == 2


async def test_twenty_at_once_are_one_job(client: Client, bus: Bus) -> None:
    """Twenty equal requests arrive at once."""
    body = await removal(client)
    answers = await asyncio.gather(*(submit_body(client, body, "k1") for _ in range(20)))

    (job_id,) = {answer.json()["id"] for answer in answers}
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len(await logged_submission(bus, job_id)) == 1


async def test_of_two_submissions_at_once_under_a_key_one_is_refused(client: Client, bus: Bus) -> None:
    """The broker keeps the first, and the second request compares itself with it."""
    body = await removal(client)
    answers = await asyncio.gather(*(submit_body(client, {**body, "seed": seed}, "k1") for seed in range(8)))

    accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    assert len(accepted) == 1
    assert len(await logged_submission(bus, accepted[0])) == 1


async def test_any_replica_knows_the_key(
    client: Client, bus: Bus, nats_url: str, stream_settings: StreamSettings
) -> None:
    """The replicas share only the broker."""
    body = await removal(client)
    first = await submit_body(client, body, "k1")
    async with gateway(NatsSettings(url=nats_url), stream_settings) as other:
        second = await submit_body(other, body, "k1")

    assert (second.status_code, second.json()["id"]) == (200, first.json()["id"])
    assert len(await logged_submission(bus, first.json()["id"])) == 1


async def test_a_repeated_submission_returns_the_jobs_state(client: Client, worker: WorkerByHand) -> None:
    """The job may have ended and its images may have expired."""
    body = await removal(client)
    job_id = (await submit_body(client, body, "k1")).json()["id"]
    await worker.queue(job_id)
    await worker.finish(job_id)

    assert (await submit_body(client, body, "k1")).json()["status"] == "done"


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_is_a_short_text(client: Client, key: str) -> None:
    """It is neither empty nor longer than 255 characters."""
    answer = await client.post("/v1/jobs", json=await removal(client), headers={"Idempotency-Key": key})

    assert answer.status_code == 422
