"""Sections 1.1, 1.14 and 1.15 of the contract: CORS, health and the remaining routes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from shared import rpc, subjects
from shared.messages import HealthReply, HealthRequest
from shared.topology import JOB_LOG
from tests.gateway import ORIGIN
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.bus import Bus
    from tests.gateway import Client


# --- CORS ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/generate/async", "/api/generate/async/cancel/x", "/api/smart-mask"])
async def test_a_preflight_is_allowed(client: Client, path: str) -> None:
    """Each JSON POST and both cancel routes have one."""
    headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    answer = await client.options(path, headers=headers)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Content-Type" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-max-age"] == "3600"
    assert "access-control-allow-credentials" not in answer.headers


async def test_other_origins_may_not_read(client: Client) -> None:
    """Only the origins of the setting; `Vary` separates the responses in caches."""
    answer = await client.get("/api/health", headers={"Origin": "https://elsewhere.example"})

    assert "access-control-allow-origin" not in answer.headers
    assert "Origin" in answer.headers["vary"]


async def test_options_is_answered_where_there_is_something(client: Client) -> None:
    """The response is 200 and empty; an unknown path is 404 for each method."""
    known = await client.options("/api/generate/async")
    unknown = [(await client.request(method, "/api/unknown")).status_code for method in ("OPTIONS", "GET", "POST")]

    assert (known.status_code, known.content, known.headers["allow"]) == (200, b"", "POST")
    assert unknown == [404, 404, 404]


# --- health -------------------------------------------------------------------------------------------------------


async def test_the_gateways_own_health(client: Client) -> None:
    """All fields that a client reads."""
    answer = await client.get("/api/health")

    assert answer.status_code == 200
    assert answer.json().keys() == {"status", "service", "model_loaded", "device", "device_info"}
    assert (answer.json()["status"], answer.json()["service"]) == ("healthy", "gateway")


async def test_system_health_is_degraded_while_a_service_is_down(client: Client) -> None:
    """The response has all four, with the client's names."""
    answer = (await client.get("/api/system/health")).json()

    assert answer["status"] == "degraded"
    assert answer["services"].keys() == {"generation", "segmentation", "image_utils", "job_manager"}
    assert {service["status"] for service in answer["services"].values()} == {"unhealthy"}
    assert answer["services"]["generation"]["error"] == "The service a100worker is not running."


async def test_system_health_is_healthy_when_all_are(client: Client, bus: Bus) -> None:
    """The status is the literal word; other fields of a service are passed on."""

    async def well(_: HealthRequest) -> HealthReply:
        return HealthReply(service="x", instance="here", status="healthy", detail={"engine": "by-hand"})

    names = ("a100worker", "segmentation", "imageutils", "jobmanager")
    async with rpc.serve(bus, "x", [rpc.Endpoint(subjects.health(name), HealthRequest, well) for name in names]):
        answers: list[dict[str, Any]] = []

        async def all_answer() -> bool:
            """Each service has two seconds, and a busy machine may pause for as long."""
            answers.append((await client.get("/api/system/health")).json())
            return bool(answers[-1]["status"] == "healthy")

        await wait_until(all_answer, "the system is healthy")
    answer = answers[-1]

    assert answer["streams"] == []
    assert answer["services"]["generation"] == {"status": "healthy", "instance": "here", "engine": "by-hand"}


@pytest.mark.parametrize("path", ["/api/system/health", "/v1/health"])
async def test_every_instance_of_a_service_is_listed(client: Client, bus: Bus, path: str) -> None:
    """By name. One that starts beside a healthy one is no alarm; one that is degraded is."""
    statuses = {"i1": "starting", "i2": "healthy"}
    async with instance(bus, "i1", statuses), instance(bus, "i2", statuses):
        answers: list[dict[str, Any]] = []

        async def are_both_listed() -> bool:
            answers.append((await client.get(path)).json()["services"]["image_utils"])
            return len(answers[-1].get("instances", [])) == len(statuses)

        await wait_until(are_both_listed, "both instances have answered in time")
        well = answers[-1]
        statuses["i1"] = "degraded"
        await wait_until(are_both_listed, "both instances have answered in time")

    assert well["instances"] == [{"status": "starting", "instance": "i1"}, {"status": "healthy", "instance": "i2"}]
    assert (well["status"], answers[-1]["status"]) == ("healthy", "degraded")


@asynccontextmanager
async def instance(bus: Bus, name: str, statuses: dict[str, Any]) -> AsyncIterator[None]:
    """Answer for one instance of the image utilities."""

    async def report(_: HealthRequest) -> HealthReply:
        return HealthReply(service="imageutils", instance=name, status=statuses[name])

    endpoint = rpc.Endpoint(subjects.health("imageutils"), HealthRequest, report, everywhere=True)
    async with rpc.serve(bus, "imageutils", [endpoint]):
        yield


@pytest.mark.parametrize("path", ["/api/system/health", "/v1/health"])
async def test_a_weak_stream_degrades_the_system(client: Client, bus: Bus, path: str) -> None:
    """The sentence names the fault and the command that fixes it."""
    jetstream = bus.client.jetstream()
    await jetstream.update_stream((await jetstream.stream_info(JOB_LOG)).config.evolve(max_bytes=1024**2))

    answer = (await client.get(path)).json()

    (sentence,) = answer["streams"]
    assert answer["status"] == "degraded"
    assert sentence.startswith("JOB_LOG has max_bytes 1048576 instead of 536870912; correct it with `nats stream edit ")


# --- odd ends -----------------------------------------------------------------------------------------------------


async def test_the_root_says_what_this_is(client: Client) -> None:
    """With and without the slash."""
    answers = [await client.get(path) for path in ("/api/", "/api")]

    assert [answer.json()["name"] for answer in answers] == ["ArtMancer", "ArtMancer"]


async def test_clearing_the_cache_succeeds(client: Client) -> None:
    """No cache can be stale."""
    answer = await client.post("/api/clear-cache")

    assert (answer.status_code, answer.json()["success"]) == (200, True)


async def test_openapi_knows_every_body(client: Client) -> None:
    """The routes read their bodies without FastAPI."""
    schema = (await client.get("/openapi.json")).json()
    posts = {path: operations["post"] for path, operations in schema["paths"].items() if "post" in operations}
    described = {
        path: set(next(iter(post["requestBody"]["content"].values()))["schema"].get("properties", {}))
        for path, post in posts.items()
        if "requestBody" in post
    }

    assert {"prompt", "input_image", "conditional_images", "seed"} <= described["/api/generate/async"]
    assert {"image", "image_id", "bbox", "points", "model_type"} <= described["/api/smart-mask"]
    assert described.keys() >= {
        "/api/generate", "/api/generate/async", "/api/generate/stream", "/api/smart-mask", "/api/smart-mask/detect",
        "/api/image-utils/extract-object", "/api/image-utils/add-shadow-preview", "/api/image-utils/white-balance",
    }  # fmt: skip
