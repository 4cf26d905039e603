"""The recipes that only read: services, jobs, queues, and the results of the checks."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest

from shared import job_events
from shared.messages import Preview, Task
from shared.topology import JOB_Q
from tests.gateway import Client, gateway_process, healthy
from tests.operations.recipes import PAGE, ROOT, Operator, recipes
from tests.ports import free_port
from tests.running import script
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shared.bus import Bus
    from tests.running import Desk

NO_BROKER = "nats://127.0.0.1:9"


def test_every_recipe_is_tried() -> None:
    """A recipe that no test runs would be a claim."""
    tests = "".join(path.read_text() for path in (ROOT / "tests/operations").glob("test_*.py"))
    tried = set(re.findall(r"\.(?:run|follow)\(\s*\"([a-z-]+)\"", tests))

    assert tried == set(recipes())


def test_every_block_of_commands_is_a_recipe() -> None:
    """None stands on the page without a name."""
    assert PAGE.read_text().count("```sh\n") == len(recipes())


def test_every_log_line_that_the_page_explains_exists() -> None:
    """An alarm that never fires is of no use."""
    sources = "".join(path.read_text() for part in ("shared", "services") for path in (ROOT / part).rglob("*.py"))
    signs = [row.split("|")[1] for row in PAGE.read_text().splitlines() if row.startswith("| log ")]
    named = {name for sign in signs for name in re.findall(r"`([a-z]+\.[a-z-]+)`", sign)}

    assert len(named) >= 8
    assert [name for name in named if f'"{name}"' not in sources] == []


async def test_the_services_are_listed(operator: Operator, desk: Desk) -> None:
    """Each process has its line."""
    async with desk.manager(), desk.worker():
        listed = await operator.run("list-services")

    assert "jobmanager" in listed
    assert "a100worker" in listed


async def test_the_load_of_a_service_is_shown(operator: Operator, desk: Desk) -> None:
    """With true figures: the questions that were asked, and how long they took."""
    async with desk.manager():
        await operator.run("queues")
        table = await operator.run("service-load", SERVICE="jobmanager")
    row = next(line for line in table.splitlines() if "svc-job-queue" in line)
    _, _, endpoint, requests, _, errors, took, _, _ = (cell.strip() for cell in row.split("│"))

    assert (endpoint, requests, errors) == ("svc-job-queue", "1", "0")
    assert took != "0s"


async def test_a_service_that_is_well_says_so(operator: Operator, desk: Desk) -> None:
    """And one that does not run is an alarm."""
    async with desk.manager():
        assert "OK" in await operator.run("service-health", SERVICE="jobmanager")

    code, _, _ = await operator.result(recipes()["service-health"], SERVICE="jobmanager")
    assert code == 2


async def test_a_job_can_be_followed(operator: Operator, desk: Desk) -> None:
    """Its events come as they happen."""
    async with desk.manager(), desk.worker(), operator.follow("follow-job", JOB="j1") as output:
        await wait_until(lambda: listens(output, desk.bus), "the command listens")  # it prints a line before it does
        await desk.submit("j1", script(3))
        seen: list[str] = []
        while not seen or seen[-1] != "done":
            async with asyncio.timeout(10):
                line = await output.readline()
            assert line, f"The command ended after {seen}."
            seen += [json.loads(line)["type"]] if line.startswith(b"{") else []

    assert seen == ["queued", "started", "progress", "progress", "progress", "done"]


async def listens(output: asyncio.StreamReader, bus: Bus) -> bool:
    await bus.emit("live.ev.j1.test", b"a word\n")
    try:
        return await asyncio.wait_for(output.readline(), 0.1) == b"a word\n"
    except TimeoutError:
        return False


async def test_the_history_of_a_job_can_be_read(operator: Operator, desk: Desk) -> None:
    """It prints the whole history and exits, also for an unknown job."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(2))
        await desk.done("j1")
    lines = (await operator.run("job-history", JOB="j1")).splitlines()
    types = [json.loads(line)["type"] for line in lines if line.startswith("{")]

    assert types == ["queued", "started", "progress", "progress", "done"]
    assert "{" not in await operator.run("job-history", JOB="j2")


async def test_a_history_contains_no_previews(operator: Operator, bus: Bus) -> None:
    """A terminal cannot show them, and one is 28 kB of base64."""
    await bus.publish("job.ev.j1.preview", Preview(job_id="j1", step=1, jpeg_base64="aGVsbG8="))

    lines = (await operator.run("job-history", JOB="j1")).splitlines()

    assert [{"type", "step"} <= json.loads(line).keys() for line in lines if line.startswith("{")] == [True]
    assert "aGVsbG8" not in "".join(lines)


async def test_jobs_are_listed_by_owner_by_hour_and_by_time(operator: Operator, desk: Desk) -> None:
    """The records of the view are enough; no log is read. A bucket lists its records by their last change."""
    async with desk.manager(), desk.worker():
        for owner, job in (("ann", "j1"), ("ann", "j2"), ("bob", "j3")):
            await desk.submit(job, user=owner)
            await desk.done(job)

        async def shown() -> list[dict[str, object]]:
            rows = [json.loads(line) for line in (await operator.run("jobs-of-owner", OWNER="ann")).splitlines()]
            return rows if [row["state"] for row in rows] == ["done", "done"] else []

        await wait_until(shown, "both records are up to date")
        listed = await shown()

    assert {(row["job_id"], row["task"]) for row in listed} == {("j1", "white-balance"), ("j2", "white-balance")}
    slow = await operator.run("slow-jobs", LONGER_S="0")
    assert {json.loads(line)["job_id"] for line in slow.splitlines()} >= {"j1", "j2"}
    assert await operator.run("slow-jobs", LONGER_S="3600") == ""
    counted = [line.split() for line in (await operator.run("jobs-per-hour")).splitlines()]
    assert sum(int(row[0]) for row in counted) == 3
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:00", " ".join(row[1:])) for row in counted)


async def test_running_jobs_are_shown_with_their_workers(operator: Operator, desk: Desk) -> None:
    """One line for each job that a worker has."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", script(1000, 20))
        await desk.started("j1")

        async def shown() -> str:
            return await operator.run("running-jobs")

        await wait_until(shown, "the record states that the job runs")
        row = json.loads(await shown())
        await desk.cancel("j1")

    assert (row["job_id"], row["user"], row["attempt"]) == ("j1", "u1", 1)
    assert row["worker"]


async def test_the_record_of_a_job_is_the_fold_of_its_events(operator: Operator, desk: Desk, bus: Bus) -> None:
    """The command shows the same view as every service sees."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", user="ann")
        await desk.done("j1")

        async def is_projected() -> bool:
            code, out, _ = await operator.result(recipes()["job-record"], JOB="j1", OWNER="ann")
            return code == 0 and json.loads(out)["state"] == "done"

        await wait_until(is_projected, "the record is up to date")
        shown = json.loads(await operator.run("job-record", JOB="j1", OWNER="ann"))
    record = await job_events.load_record(bus, "j1")

    assert record is not None
    for field in ("state", "user", "log_seq", "worker", "attempt", "ended"):  # steps are not projected one by one
        assert shown[field] == record.model_dump(mode="json", exclude_none=True)[field]


async def test_what_was_asked_for_can_be_read(operator: Operator, desk: Desk) -> None:
    """As it was logged."""
    seq = await desk.submit("j1", "a red {{boat}}", user="ann")

    logged = json.loads(await operator.run("logged-job", JOB="j1"))

    assert (logged["seq"], logged["subject"]) == (seq, "job.submit.a100.interactive.ann.j1")
    assert logged["body"]["prompt"] == "a red {{boat}}"


async def test_what_waits_can_be_seen(operator: Operator, desk: Desk, bus: Bus) -> None:
    """Without a worker, the job is in the queue, under its user."""
    async with desk.manager():
        await desk.submit("j1", user="ann")
        await wait_until(lambda: is_queued(bus), "the job is in the queue")
        shown = await operator.run("queues")

    assert re.search(r"a100-interactive-white-balance.*│ 1 / 100%", shown)
    assert json.loads(shown[shown.rindex("\n{") :]) == {"ann": ["j1"]}


async def is_queued(bus: Bus) -> bool:
    return await bus.subjects_in(JOB_Q, "job.q.>") != []


async def test_the_storage_is_shown(operator: Operator, desk: Desk) -> None:
    """Every stream."""
    await desk.submit("j1")

    shown = await operator.run("storage")

    assert all(name in shown for name in ("JOB_LOG", "JOB_Q", "JOB_EV", "JOB_DLQ", "KV_jobs", "OBJ_results"))


async def test_the_checks_are_content_with_a_system_that_is_well(operator: Operator, desk: Desk) -> None:
    """Each ends with 0."""
    async with desk.manager(), desk.worker():
        await operator.run("check-broker")
        await operator.run("check-dead-letters")
        for task in Task:
            await operator.run("check-workers", TASK=task)


async def test_a_dead_letter_is_an_alarm(operator: Operator, desk: Desk) -> None:
    """The first one warns."""
    async with desk.manager():
        await desk.submit_raw("bad", b"{}")
        await desk.failed("bad")
    code, out, _ = await operator.result(recipes()["check-dead-letters"])

    assert (code, out.split()[0]) == (1, "WARNING")


@pytest.mark.parametrize("waiting", [19, 20])
async def test_a_long_queue_is_an_alarm(operator: Operator, bus: Bus, waiting: int) -> None:
    """The alert begins at the number that the recipe names."""
    for number in range(waiting):
        await bus.publish(f"job.q.a100.interactive.removal.u1.j{number}", b"{}")
    code, _, _ = await operator.result(recipes()["check-workers"], TASK="removal")

    assert code == (2 if waiting >= 20 else 0)


async def test_a_bug_report_has_the_facts_and_no_prompt(operator: Operator, desk: Desk) -> None:
    """Versions, health, errors, streams and dead letters."""
    async with desk.manager(), desk.worker():
        await desk.submit("j1", "a secret boat")
        await desk.done("j1")
        await desk.submit_raw("bad", b"{}")
        await desk.failed("bad")
        await operator.run("bug-report", GATEWAY="http://127.0.0.1:9")
    report = (operator.folder / "report.txt").read_text()

    facts = (
        "v0.5.1",
        "Server Version: 2.",
        "OK JetStream",
        "Failed to connect",
        '"service":"jobmanager"',
        '"num_errors":0',
        "JOB_LOG",
        "job.dlq.a100.bad_message.bad",
    )
    assert [fact for fact in facts if fact not in report] == [], report
    assert "secret" not in report


async def test_a_bug_report_of_a_system_without_a_broker_has_the_gateway(nats_command: Path, tmp_path: Path) -> None:
    """Each command that fails leaves its reason, and the next ones run."""
    port = free_port()
    operator = Operator(nats_command, NO_BROKER, tmp_path)
    async with gateway_process(NATS_URL=NO_BROKER, GATEWAY_PORT=str(port)), Client(port) as client:
        await healthy(client, "degraded")
        await operator.result(recipes()["bug-report"], GATEWAY=f"http://127.0.0.1:{port}")
    report = (tmp_path / "report.txt").read_text()

    assert '{"status":"' in report
    assert report.count("no servers available") >= 8
