"""/api/debug, /api/visualization and the debug_info of results."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from shared import subjects
from shared.messages import DebugSession, JobSubmit, Task
from shared.topology import SESSIONS
from tests.gateway import b64, png, saved
from tests.v1_client import submit, upload

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.image_store import NatsImageStore
    from tests.gateway import Client, WorkerByHand
    from tests.running import Desk


async def edit_once(client: Client, desk: Desk, **fields: Any) -> str:
    """Return the id of a finished removal; `debug` is on by default."""
    async with desk.manager(), desk.worker("classical"):
        job_id = await client.submit(**{"enable_debug": True, **fields})
        await desk.done(job_id)
    return job_id


async def sessions(client: Client) -> dict[str, Any]:
    """Return the list of sessions."""
    listed: dict[str, Any] = (await client.get("/api/debug/sessions")).json()
    return listed


async def test_the_panel_gets_its_pictures(client: Client, desk: Desk) -> None:
    """The result has labels, sizes and inputs, and for a brush the dilated mask."""
    job_id = await edit_once(client, desk, input_image=b64(png()))

    info = (await client.get(f"/api/generate/result/{job_id}")).json()["debug_info"]

    assert info["conditional_labels"] == ["original", "mask", "mae"]
    assert (info["input_image_size"], info["output_image_size"]) == ("64x48", "64x48")
    assert info["original_image"] == b64(png())
    assert info["mask_mae_dilated"].startswith("iVBORw0KGgo")
    assert re.fullmatch(r"\d{8}_\d{6}_\d{8}", info["session_name"])


async def test_without_debug_there_is_no_trace_of_it(client: Client, desk: Desk) -> None:
    """The client's panel opens for any debug_info."""
    job_id = await edit_once(client, desk, enable_debug=False)

    assert "debug_info" not in (await client.get(f"/api/generate/result/{job_id}")).json()
    assert (await sessions(client))["sessions"] == []


async def test_a_session_that_has_expired_costs_no_result(client: Client, desk: Desk, bus: Bus) -> None:
    """Only debug_info is missing."""
    job_id = await edit_once(client, desk)
    await bus.purge(SESSIONS, subjects.debug_sessions_of("local"))

    answer = await client.get(f"/api/generate/result/{job_id}")

    assert (answer.status_code, "debug_info" in answer.json()) == (200, False)


async def test_sessions_are_listed(client: Client, desk: Desk) -> None:
    """The list has the fields of the client's type."""
    await edit_once(client, desk)

    listed = await sessions(client)

    (session,) = listed["sessions"]
    assert (listed["enabled"], listed["total"]) == (True, 1)
    assert session.keys() == {
        "session_name", "created_at", "success", "task_type", "generation_time", "num_images"
    }  # fmt: skip
    assert (session["success"], session["task_type"], session["num_images"]) == (True, "removal", 5)


async def test_a_session_shows_its_files(client: Client, desk: Desk) -> None:
    """Each file can be downloaded, alone and in one archive."""
    await edit_once(client, desk)
    name = (await sessions(client))["sessions"][0]["session_name"]

    details = (await client.get(f"/api/debug/sessions/{name}")).json()
    pictures = [await client.get(f"/api/debug/sessions/{name}/images/{file}") for file in details["image_files"]]
    archive = await client.get(f"/api/debug/sessions/{name}/download")

    assert details["image_files"] == sorted(details["image_files"])
    assert {picture.headers["content-type"] for picture in pictures} == {"image/png"}
    assert archive.headers["content-type"] == "application/zip"
    assert archive.headers["content-disposition"] == f'attachment; filename="{name}.zip"'
    bundle = zipfile.ZipFile(io.BytesIO(archive.content))
    assert bundle.namelist() == [*details["image_files"], "metadata.json"]
    assert json.loads(bundle.read("metadata.json")) == details["metadata"]
    assert [bundle.read(file) for file in details["image_files"]] == [picture.content for picture in pictures]


@pytest.mark.parametrize(
    "path",
    [
        "20260101_000000_00000000",
        "..",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "*",
        "%3e",
        "20260101_000000_00000000/download",
        "../../etc/passwd/images/x.png",
        "x" * 6000,
    ],
)
async def test_names_lead_nowhere_else(client: Client, path: str) -> None:
    """Names are checked before the lookup, and the gateway keeps running."""
    answer = await client.get(f"/api/debug/sessions/{path}")

    assert (answer.status_code, list(answer.json())) == (404, ["detail"])
    assert (await client.get("/api/health")).json()["status"] == "healthy"


@pytest.mark.parametrize("file", ["nope.png", "..%2f01_input_image.png", "metadata.json", "01_input_image"])
async def test_an_unknown_file_is_404(client: Client, desk: Desk, file: str) -> None:
    """Only the listed files exist."""
    await edit_once(client, desk)
    name = (await sessions(client))["sessions"][0]["session_name"]

    assert (await client.get(f"/api/debug/sessions/{name}/images/{file}")).status_code == 404


async def test_the_status_has_the_size(client: Client, desk: Desk) -> None:
    """The response has the number of sessions and their size."""
    await edit_once(client, desk)

    status = (await client.get("/api/debug/status")).json()

    assert (status["enabled"], status["total_sessions"]) == (True, 1)
    assert status["total_size_mb"] >= 0


@pytest.mark.parametrize(
    "how", [{"params": {"keep_last_n": 1}}, {"json": {"keep_last_n": 1}}], ids=["as a query", "as a body"]
)
async def test_a_cleanup_keeps_the_newest(client: Client, desk: Desk, how: dict[str, Any]) -> None:
    """The client's gateway sends the number in the body, its service reads it from the query."""
    await edit_once(client, desk)
    await edit_once(client, desk)
    newest = (await sessions(client))["sessions"][0]

    answer = await client.post("/api/debug/cleanup", **how)

    assert answer.json() == {"enabled": True, "deleted": 1, "kept": 1}
    assert (await sessions(client))["sessions"] == [newest]


async def test_a_cleanup_without_a_number_keeps_fifty(client: Client, desk: Desk) -> None:
    """The default of the contract is fifty."""
    await edit_once(client, desk)

    assert (await client.post("/api/debug/cleanup")).json() == {"enabled": True, "deleted": 0, "kept": 1}


@pytest.mark.parametrize("how", [{"params": {"keep_last_n": -1}}, {"json": {"keep_last_n": "all"}}])
async def test_a_senseless_cleanup_is_refused(client: Client, how: dict[str, Any]) -> None:
    """Nothing is deleted."""
    assert (await client.post("/api/debug/cleanup", **how)).status_code == 422


# --- before and after ---------------------------------------------------------------------------------------------


async def test_before_and_after_are_png(client: Client, worker: WorkerByHand) -> None:
    """Both files are PNG for each format of the upload."""
    photo = saved(Image.new("RGB", (64, 48), "teal"), "JPEG")
    job_id = await submit(client, image=await upload(client, photo))
    await worker.finish(job_id, png("orange"))

    before = await client.get(f"/api/visualization/{job_id}/original")
    after = await client.get(f"/api/visualization/{job_id}/generated")

    assert (before.headers["content-type"], Image.open(io.BytesIO(before.content)).format) == ("image/png", "PNG")
    assert after.content == png("orange")


async def test_both_come_in_one_archive(client: Client, worker: WorkerByHand) -> None:
    """The archive has the job's metadata."""
    job_id = await submit(client)
    await worker.finish(job_id, png("orange"))

    answer = await client.get(f"/api/visualization/{job_id}/download", params={"format": "zip"})

    bundle = zipfile.ZipFile(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == "application/zip"
    assert bundle.namelist() == ["original.png", "generated.png", "metadata.json"]
    assert json.loads(bundle.read("metadata.json"))["id"] == job_id


async def test_another_format_is_400(client: Client) -> None:
    """The only format is zip."""
    answer = await client.get("/api/visualization/x/download", params={"format": "rar"})

    assert (answer.status_code, answer.json()) == (400, {"detail": "The only supported format is zip."})


@pytest.mark.parametrize("what", ["original", "generated", "download"])
async def test_an_unknown_job_is_404(client: Client, what: str) -> None:
    """The error is one sentence."""
    answer = await client.get(f"/api/visualization/nope/{what}")

    assert (answer.status_code, list(answer.json())) == (404, ["detail"])


async def test_a_job_without_a_result_shows_only_what_was(client: Client) -> None:
    """The job may still run."""
    job_id = await submit(client)

    assert (await client.get(f"/api/visualization/{job_id}/original")).status_code == 200
    assert (await client.get(f"/api/visualization/{job_id}/generated")).status_code == 404


async def test_the_newest_session_is_the_one_stored_last(client: Client, bus: Bus, images: NatsImageStore) -> None:
    """The clock of a worker may be days behind."""
    ref = await images.put("results", png())
    for number, at in enumerate((3 * 86_400, 1)):
        session = DebugSession(
            name=f"20260301_093000_0000000{number}", job_id="j1", user="local", created_at=at, engine="x", images=[],
            duration_ms=1, submit=JobSubmit(task=Task.WHITE_BALANCE, image=ref.sha256), result=ref,
        )  # fmt: skip
        await bus.publish(subjects.debug_session("local", session.name), session)
    await client.post("/api/debug/cleanup?keep_last_n=1")

    assert [each["session_name"] for each in (await sessions(client))["sessions"]] == ["20260301_093000_00000001"]


async def test_an_open_gateway_has_every_session(client: Client, bus: Bus, images: NatsImageStore) -> None:
    """Also one of a job that was published by hand under another name: found, listed and cleaned up."""
    ref = await images.put("results", png())
    session = DebugSession(
        name="20260301_093000_00000001", job_id="j1", user="mallory", created_at=1, engine="x", duration_ms=1,
        submit=JobSubmit(task=Task.WHITE_BALANCE, image=ref.sha256), result=ref, images=[],
    )  # fmt: skip
    await bus.publish(subjects.debug_session("mallory", session.name), session)
    found = await client.get(f"/api/debug/sessions/{session.name}")
    listed = await sessions(client)
    tidied = (await client.post("/api/debug/cleanup?keep_last_n=0")).json()

    assert found.status_code == 200
    assert listed["total"] == 1
    assert (tidied["deleted"], tidied["kept"]) == (1, 0)
