"""Stop and restart containers under load: running jobs are finished or handed back, and no request fails."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.containers.edits import PHOTO, SPOON_BOX, events, good, order, remove_the_spoon, upload, wait_for_end
from tests.waiting import SELDOM_S, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.containers.project import Project

GRACE_S = {"gateway": 15, "segmentation": 15, "imageutils": 15, "jobmanager": 10, "a100worker": 25}  # of compose.yaml
pytestmark = pytest.mark.timeout(600)


def script(steps: int, interval_ms: int) -> str:
    """Return the prompt that makes the scripted engine take so many steps, so far apart."""
    return json.dumps({"steps": steps, "interval_ms": interval_ms})


async def stop(project: Project, name: str) -> None:
    """Send SIGTERM; the container must end by itself and well, within its service's grace: else it is killed (137)."""
    grace_s = GRACE_S[name.split("-")[1]]
    await asyncio.to_thread(project.engine.podman, "stop", "--time", str(grace_s), name)
    assert project.container(name).exit_code == 0, project.logs(name)[-3000:]


async def start(project: Project, name: str) -> None:
    """Start it again, and return when it takes work."""
    await asyncio.to_thread(project.engine.podman, "start", name)
    await wait_until(
        lambda: asyncio.to_thread(project.ready, name), f"{name} takes work", timeout_s=60, look_every_s=SELDOM_S
    )


@pytest.fixture
async def scripted_worker(project: Project, client: httpx.AsyncClient) -> AsyncIterator[None]:
    """Provide one worker with jobs of a given length. At a stop, it hands back a job that needs 7 s more."""
    # `--no-deps`: Compose, which misreads Podman's answers, would make the broker again as well.
    alone = ("--no-deps", "a100worker")
    project.up(*alone, A100WORKER_BACKEND="scripted", A100WORKER_DRAIN_S="10")  # of which 3 s are for giving it back
    await project.wait_until_healthy()
    yield
    project.up(*alone)
    await project.wait_until_healthy()
    await remove_the_spoon(client)


@pytest.mark.usefixtures("scripted_worker")
async def test_a_worker_finishes_its_job_or_hands_it_back(client: httpx.AsyncClient, project: Project) -> None:
    """A job that ends in time ends; a longer one goes back, at no cost, and the next worker does it."""
    image = await upload(client, PHOTO.read_bytes())
    short = await order(client, task="white-balance", image=image, prompt=script(20, 150))
    await running(client, short)
    await stop(project, "artmancer-a100worker-1")
    assert (await wait_for_end(client, short))["status"] == "done"
    await start(project, "artmancer-a100worker-1")

    long = await order(client, task="white-balance", image=image, prompt=script(70, 200))
    await running(client, long)
    await stop(project, "artmancer-a100worker-1")
    await start(project, "artmancer-a100worker-1")
    assert (await wait_for_end(client, long))["status"] == "done"
    names = [name for name, _ in await events(client, long)]
    assert names.count("started") == 2
    assert names.count("returned") == 1


async def running(client: httpx.AsyncClient, job: str) -> None:
    """Wait until a worker has the job."""

    async def begun() -> bool:
        return bool(good(await client.get(f"/v1/jobs/{job}"))["status"] == "running")

    await wait_until(begun, f"{job} runs")


async def mask(client: httpx.AsyncClient, image: str) -> httpx.Response:
    """Ask the segmentation service."""
    return await client.post("/v1/masks", json={"image": image, "box": SPOON_BOX})


async def extract(client: httpx.AsyncClient, image: str, drawn: str) -> httpx.Response:
    """Ask the image utilities."""
    return await client.post("/v1/extractions", json={"image": image, "mask": drawn})


@pytest.mark.parametrize("service", ["segmentation", "imageutils", "gateway", "jobmanager"])
async def test_a_service_answers_what_it_was_asked(client: httpx.AsyncClient, project: Project, service: str) -> None:
    """It answers before it exits, in time. A later request is refused; with two replicas none is, see below."""
    image = await upload(client, PHOTO.read_bytes())
    drawn = good(await mask(client, image))["sha256"]
    questions = [mask(client, image) if service == "segmentation" else extract(client, image, drawn) for _ in range(4)]
    asked = [asyncio.create_task(question, name="question") for question in questions]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)

    await stop(project, f"artmancer-{service}-1")
    answers = await asyncio.gather(*asked)
    await start(project, f"artmancer-{service}-1")

    assert any(answer.is_success for answer in answers), [answer.text for answer in answers]
    late = [answer for answer in answers if not answer.is_success]  # they came when it no longer listened
    assert all(answer.status_code == 503 and answer.json()["code"] == "unavailable" for answer in late), late


async def test_three_workers_share_the_work(client: httpx.AsyncClient, project: Project) -> None:
    """`--scale a100worker=3`: six jobs at once are done by more than one of them."""
    project.up("--no-recreate", "--scale", "a100worker=3")
    await project.wait_until_healthy()
    image = await upload(client, PHOTO.read_bytes())
    ordered = (order(client, task="white-balance", image=image, seed=seed) for seed in range(6))
    jobs = await asyncio.gather(*ordered)
    assert {(await wait_for_end(client, job))["status"] for job in jobs} == {"done"}

    workers = {facts["worker"] for job in jobs for name, facts in await events(client, job) if name == "started"}
    assert len(project.containers("a100worker")) == 3
    assert len(workers) > 1
    project.up("--no-recreate", "--scale", "a100worker=1")


@asynccontextmanager
async def busy(*kinds: Callable[[int], Awaitable[Any]]) -> AsyncIterator[list[str]]:
    """Keep one request of each kind open while the block runs. Yield the failures."""
    failed: list[str] = []
    over = asyncio.Event()

    async def repeat(kind: Callable[[int], Awaitable[Any]]) -> None:
        for number in count():
            if over.is_set():
                return
            try:
                await kind(number)
            except (httpx.HTTPError, AssertionError) as error:
                said = error.response.text if isinstance(error, httpx.HTTPStatusError) else ""
                failed.append(f"{kind.__name__} {number}: {error!r} {said}")

    async with asyncio.TaskGroup() as tasks:
        for kind in kinds:
            tasks.create_task(repeat(kind), name=kind.__name__)
        try:
            yield failed
        finally:
            over.set()


async def test_a_rolling_restart_fails_nobody(
    client: httpx.AsyncClient, project: Project, record_property: Callable[[str, object], None]
) -> None:
    """Two of each service, stopped and started one by one under load: not one request fails, not one job is lost."""
    services = ("gateway", "segmentation", "imageutils", "jobmanager", "a100worker")
    project.up("--no-recreate", *(word for service in services for word in ("--scale", f"{service}=2")))
    await project.wait_until_healthy()
    image = await upload(client, PHOTO.read_bytes())
    drawn = good(await mask(client, image))["sha256"]
    done = {"edits": 0, "masks": 0, "extractions": 0, "pages": 0}

    async def edits(number: int) -> None:
        job = await order(client, task="white-balance", image=image, seed=number)
        assert (await wait_for_end(client, job))["status"] == "done"
        done["edits"] += 1

    async def masks(number: int) -> None:
        del number
        good(await mask(client, image))
        done["masks"] += 1

    async def extractions(number: int) -> None:
        del number
        good(await extract(client, image, drawn))
        done["extractions"] += 1

    async def pages(number: int) -> None:
        del number
        (await client.get("/")).raise_for_status()
        done["pages"] += 1

    async with busy(edits, masks, extractions, pages) as failed:
        for service in services:
            for container in project.containers(service):
                await stop(project, container.name)
                await start(project, container.name)

    record_property("done", json.dumps(done))
    assert failed == [], "\n".join([*failed[:5], project.logs("artmancer-caddy-1")[-3000:]])
    assert all(done.values()), done
    with suppress(RuntimeError):
        project.up("--no-recreate", *(word for service in services for word in ("--scale", f"{service}=1")))
