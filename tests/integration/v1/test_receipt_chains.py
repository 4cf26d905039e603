"""The receipt of an edit of an earlier result names every step back to the upload."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from services.gateway.v1.results.chains import MOST_EDITS
from shared import subjects
from shared.marks import mark_result, unmark_result
from shared.messages import Done, ImageRef
from shared.settings import NatsSettings
from tests.gateway import WorkerByHand
from tests.integration.keyed import keyed_gateway

if TYPE_CHECKING:
    from pathlib import Path

    from shared.bus import Bus
    from shared.settings import StreamSettings
    from tests.gateway import Client
    from tests.running import Desk

UNKNOWN: dict[str, Any] = {
    "id": None, "task": None, "inputs": {}, "seed": None, "variant": None, "strength": None, "temperature": None,
    "engine": None, "pixels_changed_outside_mask": None, "changed_box": None, "digital_source_type": None,
    "finished_at": None,
}  # fmt: skip
MASK = "f" * 64


def picture(name: str) -> str:
    """Return the hash of a picture of this name."""
    return hashlib.sha256(name.encode()).hexdigest()


async def edit(desk: Desk, bus: Bus, job_id: str, image: str, output: str, user: str = "local") -> None:
    """Submit and end a removal as the services do, without the pictures."""
    result = ImageRef(
        bucket="results", sha256=picture(output), content_type="image/png", width=4, height=3, size_bytes=9
    )
    await desk.submit(job_id, user=user, task="removal", image=picture(image), mask=MASK, seed=len(job_id))
    await mark_result(bus, user, job_id, result)
    await WorkerByHand(bus, None, user).say(  # type: ignore[arg-type]  # it stores nothing here
        Done(
            job_id=job_id, worker="w1", engine="e1", attempt=1, result=result, duration_ms=5, seed=len(job_id),
            changed_outside_px=0, changed_box=(1, 2, 3, 4),
        )
    )  # fmt: skip


async def chain(desk: Desk, bus: Bus, count: int) -> None:
    """Edit a photo several times: the job j1 makes v1 of v0, and so on."""
    for number in range(1, count + 1):
        await edit(desk, bus, f"j{number}", f"v{number - 1}", f"v{number}")


async def earlier(client: Client, job_id: str) -> list[dict[str, Any]]:
    """Return the steps in the receipt of a job."""
    answer = await client.get(f"/v1/jobs/{job_id}/receipt")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["earlier"])


async def test_a_receipt_names_every_step_back_to_the_upload(bus: Bus, client: Client, desk: Desk) -> None:
    """With its inputs, seed, engine and place; each result is the image of the next edit."""
    await chain(desk, bus, 3)

    receipt = (await client.get("/v1/jobs/j3/receipt")).json()
    steps = receipt["earlier"]

    assert [step["id"] for step in steps] == ["j2", "j1"]
    assert [receipt["inputs"]["image"], *(step["inputs"]["image"] for step in steps)] == [
        picture("v2"), picture("v1"), picture("v0"),
    ]  # fmt: skip
    assert [step["output"] for step in steps] == [picture("v2"), picture("v1")]
    first = dict(steps[-1])
    assert first.pop("finished_at")
    assert first == {
        "id": "j1", "task": "removal", "inputs": {"image": picture("v0"), "mask": MASK}, "output": picture("v1"),
        "seed": 2, "variant": 0, "strength": None, "temperature": None, "engine": "e1",
        "pixels_changed_outside_mask": 0, "changed_box": [1, 2, 3, 4], "digital_source_type": None, "note": None,
    }  # fmt: skip
    assert await earlier(client, "j1") == []


async def test_a_deleted_step_is_named_by_its_hash(bus: Bus, client: Client, desk: Desk) -> None:
    """And by nothing else; the chain ends there with a sentence."""
    await chain(desk, bus, 4)
    assert (await client.delete("/v1/jobs/j2?purge=true")).status_code == 204

    known, lost = await earlier(client, "j4")

    assert (known["id"], known["note"]) == ("j3", None)
    assert "deleted" in lost.pop("note")
    assert lost == {**UNKNOWN, "output": picture("v2")}


async def test_an_expired_step_is_named_by_its_hash(bus: Bus, client: Client, desk: Desk) -> None:
    """Its mark is younger than its submission and its record."""
    result = ImageRef(bucket="results", sha256=picture("v1"), content_type="image/png", width=4, height=3, size_bytes=9)
    await mark_result(bus, "local", "j1", result)
    await edit(desk, bus, "j2", "v1", "v2")

    (lost,) = await earlier(client, "j2")

    assert "expired" in lost.pop("note")
    assert lost == {**UNKNOWN, "output": picture("v1")}


async def test_a_step_without_its_submission_ends_the_chain(bus: Bus, client: Client, desk: Desk) -> None:
    """The log forgets early when it is full; the end of the job is still known."""
    await chain(desk, bus, 3)
    await bus.purge("JOB_LOG", subjects.submissions_of("j2"))

    (step,) = await earlier(client, "j3")

    assert (step["id"], step["inputs"], step["seed"]) == ("j2", {}, 2)
    assert "submission" in step["note"]


async def test_a_result_that_made_room_is_still_a_step(bus: Bus, client: Client, desk: Desk) -> None:
    """Its bytes are gone, and the edit is not."""
    await chain(desk, bus, 2)
    await unmark_result(bus, "local", "j1", picture("v1"))

    assert [step["id"] for step in await earlier(client, "j2")] == ["j1"]


async def test_an_edit_that_changes_nothing_is_not_its_own_step(bus: Bus, client: Client, desk: Desk) -> None:
    """Nor is one that followed it, or one that gave another result than its attempt stored."""
    await edit(desk, bus, "same", "v0", "v0")
    await edit(desk, bus, "later", "v0", "v0")
    await edit(desk, bus, "next", "v0", "v1")
    other = ImageRef(bucket="results", sha256=picture("v1"), content_type="image/png", width=4, height=3, size_bytes=9)
    await mark_result(bus, "local", "same", other)
    await edit(desk, bus, "last", "v1", "v2")

    assert await earlier(client, "same") == []
    assert (await earlier(client, "last"))[0]["id"] == "next"


async def test_a_long_chain_is_cut(bus: Bus, client: Client, desk: Desk) -> None:
    """A sentence in the receipt states this, with the hash at which it was cut."""
    await chain(desk, bus, MOST_EDITS + 2)

    *known, cut = await earlier(client, f"j{MOST_EDITS + 2}")

    assert [step["id"] for step in known] == [f"j{number}" for number in range(MOST_EDITS + 1, 1, -1)]
    assert str(MOST_EDITS) in cut.pop("note")
    assert cut == {**UNKNOWN, "output": picture("v1")}


async def test_the_steps_of_others_are_not_named(
    bus: Bus, desk: Desk, nats_url: str, stream_settings: StreamSettings, tmp_path: Path
) -> None:
    """A picture that another owner made is an upload, whether that owner has deleted the edit or not."""
    async with keyed_gateway(NatsSettings(url=nats_url), stream_settings, tmp_path) as house:
        await edit(desk, bus, "hers", "v0", "v1", "alice")
        await edit(desk, bus, "his", "v1", "v2", "bob")
        before = await earlier(house.bob, "his")
        await house.alice.delete("/v1/jobs/hers?purge=true")
        after = await earlier(house.bob, "his")
        await edit(desk, bus, "hers2", "v2", "v3", "alice")

        assert (before, after) == ([], [])
        assert await earlier(house.alice, "hers2") == []
