"""Every address of a gateway that requires keys, with a valid key, an invalid one and none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from services.gateway import keys
from services.gateway.access.key_format import parse_key_id
from services.gateway.access.principal import KeyScope
from shared.settings import NatsSettings
from tests.gateway import ORIGIN, WorkerByHand, edit, event_of, png
from tests.integration.keyed import keyed_gateway
from tests.v1_client import read_events, removal, submit, upload
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from shared.settings import StreamSettings
    from tests.gateway import Client
    from tests.integration.keyed import House

OPEN = {
    "GET /api", "GET /api/", "GET /api/health", "GET /api/system/health", "GET /v1/health", "GET /v1/samples",
    "GET /v1/openapi.json",
}  # fmt: skip


@pytest.fixture
async def house(
    bus: Bus, nats_url: str, stream_settings: StreamSettings, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[House]:
    """Run a gateway that requires keys; a test may pass settings."""
    assert bus.is_connected
    settings = {"heartbeat_s": 0.2, "result_wait_s": 0.3, **getattr(request, "param", {})}
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path, **settings) as house:
        yield house


@pytest.fixture
def worker(bus: Bus, images: NatsImageStore) -> WorkerByHand:
    """Return a worker for Alice's jobs."""
    return WorkerByHand(bus, images, "alice")


async def addresses(house: House) -> list[tuple[str, str]]:
    """Return every method and path of /api and /v1, with a value in place of each id."""
    found = [("GET", "/openapi.json"), ("GET", "/v1/openapi.json"), ("GET", "/nothing"), ("POST", "/v1/nothing")]
    for document in ("/v1/openapi.json", "/openapi.json"):
        paths = (await house.alice.get(document)).json()["paths"]
        found += [(method.upper(), re.sub(r"\{\w+\}", "x1", path)) for path in paths for method in paths[path]]
    return sorted(set(found))


# --- without a key ------------------------------------------------------------------------------------------------


async def test_everything_is_closed_that_is_not_open_by_name(house: House) -> None:
    """Also a path that does not exist: without a key the responses are the same."""
    answers = {f"{method} {path}": await house.nobody.request(method, path) for method, path in await addresses(house)}
    opened = {name for name, answer in answers.items() if answer.status_code != 401}

    assert len(answers) > 40
    assert opened == OPEN
    assert all(answers[name].status_code == 200 for name in OPEN)


@pytest.mark.parametrize("path", ["/v1/jobs", "/api/generate/status/x"])
async def test_a_refusal_has_the_shape_of_its_face(house: House, path: str) -> None:
    """It has the headers that browsers and programs need."""
    answer = await house.nobody.get(path)
    problem = answer.json()

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="artmancer"'
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["x-request-id"]
    assert problem["detail"] == "This needs an API key; send it in the header Authorization, after the word Bearer."
    if path.startswith("/v1/"):
        assert answer.headers["content-type"] == "application/problem+json"
        assert (problem["code"], problem["status"], problem["title"]) == ("unauthorized", 401, "Unauthorized")
    else:
        assert list(problem) == ["detail"]


async def test_a_wrong_key_is_no_key(house: House) -> None:
    """Under any scheme, and always with the same response."""
    key = house.keys["alice"]
    wrong = [f"Bearer {key[:-1]}", "Bearer", "", f"Basic {key}", f"Bearer {key} {key}", key]
    answers = [await house.nobody.get("/v1/jobs", headers={"Authorization": one}) for one in wrong]

    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {
        'Bearer realm="artmancer", error="invalid_token"'
    }
    assert {answer.json()["detail"] for answer in answers} == {"The API key is unknown, revoked or expired."}


@pytest.mark.parametrize("first", ["alice", "bob"])
async def test_two_keys_are_no_key(house: House, first: str) -> None:
    """A proxy in front may have checked the other one."""
    shown = [house.keys[first], house.keys["alice"]]
    answer = await house.nobody.get("/v1/jobs", headers=[("Authorization", f"Bearer {key}") for key in shown])

    assert answer.status_code == 401
    assert answer.json()["detail"] == "Send the header Authorization only once."


async def test_a_key_is_taken_as_it_is(house: House) -> None:
    """Spaces before it are not part of it; other whitespace is."""
    sent = [f"Bearer  {house.keys['alice']}".encode(), f"Bearer {house.keys['alice']}\x85".encode("latin-1")]
    answers = [await house.nobody.get("/v1/jobs", headers=[(b"Authorization", one)]) for one in sent]

    assert [answer.status_code for answer in answers] == [200, 401]


async def test_the_page_and_its_files_are_open(house: House) -> None:
    """The page has its own dialog for the key."""
    paths = (
        "/",
        "/service-worker.js",
        "/static/shell.json",
        "/static/js/main.js",
        "/static/samples/coffee.jpg",
        "/v1/docs",
        "/v1/docs/assets/swagger-ui.css",
    )

    assert [(await house.nobody.get(path)).status_code for path in paths] == [200] * len(paths)


@pytest.mark.parametrize("path", ["/static/../v1/jobs", "//v1/jobs", "/v1/jobs/", "/V1/JOBS", "/static/%2e%2e/v1/jobs"])
async def test_there_is_no_way_round(house: House, path: str) -> None:
    """In any spelling of the path, the response is 401 or 404."""
    async with await house.nobody.open_stream(path) as wire:
        assert wire.status in {401, 404}


async def test_a_preflight_needs_no_key(house: House) -> None:
    """A browser cannot send a key with it; the response allows the header."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    answer = await house.nobody.options("/v1/jobs", headers=asked)

    assert answer.status_code == 200
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert (await house.nobody.options("/v1/jobs")).status_code == 200


# --- with a key ---------------------------------------------------------------------------------------------------


async def test_a_key_opens_both_faces(house: House, worker: WorkerByHand) -> None:
    """The deployed client's path of calls works with a key; cached images are private."""
    task = await house.alice.submit()
    async with await house.alice.open_stream(f"/api/generate/stream/{task}") as stream:
        await worker.finish(task)
        words = [event_of(chunk)["status"] for chunk in await stream.rest() if chunk.startswith(b"data")]
    picture = await house.alice.get(f"/api/generate/result-image/{task}")

    assert words[-1] == "done"
    assert picture.status_code == 200
    assert picture.headers["cache-control"].startswith("private, ")
    assert "Authorization" in picture.headers["vary"]
    assert (await house.alice.get(f"/v1/jobs/{task}")).json()["status"] == "done"


async def test_a_key_does_what_it_is_good_for(house: House) -> None:
    """Alice's second key may read the jobs of the first, and submit none."""
    job = await submit(house.alice)
    refused = await house.viewer.post("/v1/jobs", json={})
    old_face = await house.viewer.post("/api/generate/async", json=edit())
    cleared = [(await client.post("/api/clear-cache")).status_code for client in (house.alice, house.operator)]

    assert (await house.viewer.get(f"/v1/jobs/{job}")).status_code == 200
    assert refused.status_code == 403
    assert refused.headers["www-authenticate"].endswith('error="insufficient_scope", scope="write"')
    assert (refused.json()["code"], refused.json()["detail"]) == ("forbidden", "This API key lacks the scope write.")
    assert (old_face.status_code, old_face.json()) == (403, {"detail": "This API key lacks the scope write."})
    assert (await house.operator.get(f"/v1/jobs/{job}")).status_code == 403
    assert cleared == [403, 200]


@pytest.mark.parametrize("path", ["/api/system/health", "/v1/health"])
async def test_details_of_the_system_are_for_operators(house: House, path: str) -> None:
    """Without `admin` the report has states only: no names, engines or reasons."""
    short = [(await client.get(path)).json() for client in (house.nobody, house.alice)]
    full = (await house.operator.get(path)).json()

    assert [report["status"] for report in (*short, full)] == ["degraded"] * 3
    assert all(report["services"]["segmentation"] == {"status": "unhealthy"} for report in short)
    assert full["services"]["segmentation"]["error"] == "The service segmentation is not running."


async def test_a_key_opens_as_soon_as_it_is_made(house: House) -> None:
    """The gateway has checked its file for the request before."""
    before = await house.alice.get("/v1/jobs")
    new = keys.new(house.file, "carol", frozenset({KeyScope.READ}), None)
    answer = await house.nobody.get("/v1/jobs", headers={"Authorization": f"Bearer {new}"})

    assert (before.status_code, answer.status_code) == (200, 200)


async def test_a_key_ends_while_the_gateway_runs(house: House) -> None:
    """The URLs that it has signed end with it; a new key is valid."""
    order = {"path": "/v1/jobs/x1/events"}
    signed = (await house.bob.post("/v1/signed-urls", json=order)).json()["url"]
    keys.revoke(house.file, parse_key_id(house.keys["bob"]))
    new = keys.new(house.file, "bob", frozenset({KeyScope.READ}), None)

    async def key_is_refused() -> bool:
        return (await house.bob.get("/v1/jobs")).status_code == 401

    await wait_until(key_is_refused, "the key opens nothing any more")

    assert (await house.nobody.get(signed)).status_code == 401
    assert (await house.nobody.get("/v1/jobs", headers={"Authorization": f"Bearer {new}"})).status_code == 200


# --- signed URLs --------------------------------------------------------------------------------------------------


async def test_a_jobs_links_open_without_a_header(house: House, worker: WorkerByHand) -> None:
    """An EventSource and an <img> need that. The other links require the header."""
    accepted = (await house.alice.post("/v1/jobs", json=await removal(house.alice))).json()
    links = accepted["links"]
    await worker.finish(accepted["id"])
    async with await house.nobody.open_stream(links["events"]) as wire:
        events = await read_events(wire)
    picture = await house.nobody.get(links["result"])

    assert [event.name for event in events] == ["done"]
    assert (picture.status_code, picture.content) == (200, png("red"))
    assert [(await house.nobody.get(links[name])).status_code for name in ("self", "receipt")] == [401, 401]
    assert "?" not in links["self"] + links["receipt"]


async def test_a_stream_resumes_under_its_signed_url(house: House, worker: WorkerByHand) -> None:
    """The page adds its position to the query."""
    job = await submit(house.alice)
    await worker.queue(job)
    await worker.start(job)
    await worker.finish(job)
    events = (await house.alice.get(f"/v1/jobs/{job}")).json()["links"]["events"]
    async with await house.nobody.open_stream(events) as wire:
        first = (await read_events(wire))[0]
    async with await house.nobody.open_stream(f"{events}&last_event_id={first.seq}") as wire:
        rest = await read_events(wire)

    assert [event.name for event in rest] == ["started", "done"]


async def test_a_signed_url_opens_one_thing(house: House) -> None:
    """Another method, path or expiry is refused."""
    sha256 = await upload(house.alice, png())
    answer = await house.viewer.post("/v1/signed-urls", json={"path": f"/v1/images/{sha256}", "lifetime_s": 30})
    url = answer.json()["url"]
    query = url.partition("?")[2]
    later = re.sub(r"expires=\d+", "expires=99999999999", url)
    tries = [
        await house.nobody.get(url),
        await house.nobody.head(url),
        await house.nobody.get(f"/v1/jobs/x1/events?{query}"),
        await house.nobody.post(f"/v1/images?{query}", content=png()),
        await house.nobody.get(later),
    ]

    assert answer.status_code == 201
    assert [one.status_code for one in tries] == [200, 401, 401, 401, 401]
    assert tries[0].content == png()
    assert tries[-1].json()["detail"] == "The signed URL is not valid."


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/x/receipt", "https://elsewhere.example/v1/jobs/x/events", ""])
async def test_nothing_else_can_be_signed(house: House, path: str) -> None:
    """All other requests can send a key in a header."""
    answer = await house.alice.post("/v1/signed-urls", json={"path": path})

    assert answer.status_code == 422
    assert answer.json()["detail"] == "The field path must be the path of an image, a result or an event stream."


async def test_without_access_control_addresses_stay_as_they_are(client: Client) -> None:
    """A program works with both kinds of gateway."""
    answer = await client.post("/v1/signed-urls", json={"path": "/v1/jobs/x/events"})

    assert answer.json() == {"url": "/v1/jobs/x/events", "expires_at": None}


async def test_an_address_without_access_control_states_no_place_either(client: Client) -> None:
    """It may be given to others, as a signed one; a request for the place stands."""
    paths = [f"/v1/jobs/x/result{query}" for query in ("", "?format=jpeg", "?format=jpeg&gps=keep")]
    answers = [await client.post("/v1/signed-urls", json={"path": path}) for path in paths]

    assert [answer.json()["url"] for answer in answers] == [paths[0], f"{paths[1]}&gps=drop", paths[2]]


# --- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("house", [{"key_rate_per_s": 0.1, "key_burst": 3}], indirect=True)
async def test_a_key_may_ask_so_fast(house: House) -> None:
    """The fourth request gets 429 with Retry-After; other keys and open addresses are not affected."""
    answers = [await house.alice.get("/v1/jobs") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 10
    assert answers[3].json()["code"] == "busy"
    assert (await house.alice.get("/v1/samples")).status_code == 200
    assert (await house.bob.get("/v1/jobs")).status_code == 200


@pytest.mark.parametrize("house", [{"key_previews_per_s": 0.1, "key_preview_burst": 3}], indirect=True)
async def test_the_pointer_has_a_limit_of_its_own(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond it a hover gets 429 and no audit line; the key's other requests and other keys are not affected."""
    query = {"image": "0" * 64, "point": [1, 1]}
    answers = [await house.alice.post("/v1/masks/preview", json=query) for _ in range(6)]
    written = [vars(record)["status"] for record in caplog.records if record.name == "audit"]

    assert [answer.status_code for answer in answers] == [422, 422, 422, 429, 429, 429]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 10
    assert written == [422, 422, 422]
    assert (await house.alice.get("/v1/jobs")).status_code == 200
    assert (await house.bob.post("/v1/masks/preview", json=query)).status_code == 422


@pytest.mark.parametrize("house", [{"refusal_rate_per_s": 0.1, "refusal_burst": 3}], indirect=True)
async def test_an_address_may_be_refused_so_often(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the limit it gets 429 and no audit line; a valid key from the same address still works."""
    wrong = {"Authorization": f"Bearer {house.keys['bob'][:-1]}x"}
    answers = [await house.nobody.get("/v1/jobs", headers=wrong) for _ in range(5)]
    written = [vars(record)["status"] for record in caplog.records if record.name == "audit"]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429, 429]
    assert 1 <= int(answers[4].headers["retry-after"]) <= 10
    assert "from this address" in answers[4].json()["detail"]
    assert written == [401, 401, 401]
    assert (await house.alice.get("/v1/jobs")).status_code == 200
    assert (await house.nobody.get("/v1/samples")).status_code == 200


@pytest.mark.parametrize("house", [{"key_rate_per_s": 0.1, "key_burst": 3}], indirect=True)
async def test_what_a_key_may_not_do_counts_too(house: House) -> None:
    """A refusal counts like any request of the key."""
    answers = [await house.viewer.post("/v1/jobs", json={}) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [403, 403, 403, 429]


@pytest.mark.parametrize(
    "house", [{"refusal_rate_per_s": 0.1, "refusal_burst": 1, "trusted_proxies": "127.0.0.1"}], indirect=True
)
async def test_behind_a_proxy_each_client_is_counted_alone(house: House) -> None:
    """The address comes from the header of a trusted proxy."""
    told = ["203.0.113.1", "203.0.113.1", "203.0.113.2"]
    answers = [await house.nobody.get("/v1/jobs", headers={"X-Forwarded-For": address}) for address in told]

    assert [answer.status_code for answer in answers] == [401, 429, 401]


@pytest.mark.parametrize("house", [{"refusal_rate_per_s": 0.1, "refusal_burst": 1}], indirect=True)
async def test_nobody_chooses_where_they_come_from(house: House) -> None:
    """The same header counts for nothing without a trusted proxy."""
    told = ["203.0.113.1", "203.0.113.2"]
    answers = [await house.nobody.get("/v1/jobs", headers={"X-Forwarded-For": address}) for address in told]

    assert [answer.status_code for answer in answers] == [401, 429]


@pytest.mark.parametrize("house", [{"submit_burst": 3, "submit_rate_per_s": 0.001}], indirect=True)
async def test_a_cancelled_job_costs_its_owner_a_submission(house: House) -> None:
    """Otherwise a client that submits and cancels in turn fills the log of all. Other owners are not affected."""
    for _ in range(3):
        job_id = await submit(house.alice)
        (await house.alice.delete(f"/v1/jobs/{job_id}")).raise_for_status()
    refused = await house.alice.post("/v1/jobs", json=await removal(house.alice))

    assert (refused.status_code, refused.json()["code"]) == (429, "busy")
    assert "too much in a short time" in refused.json()["detail"]
    assert await submit(house.bob)
