"""Edits without a result: the page shows a sentence with the next step, never a blank page or an endless spinner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.browser.studio import Studio

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
UNKNOWN_ID, UNKNOWN_PHOTO = "0" * 32, "0" * 64
CHANGE = """
async (changes) => {
  const opening = indexedDB.open("artmancer");
  const done = (request) => new Promise((resolve) => { request.onsuccess = () => resolve(request.result); });
  const database = await done(opening);
  const all = ["versions", "desks", "blobs", "photos"];
  const transaction = database.transaction(all, "readwrite");
  const [versions, ...others] = all.map((name) => transaction.objectStore(name));
  const [entry] = await done(versions.getAll());
  versions.delete(entry.id);
  versions.put({ ...entry, ...changes }, changes.id ?? entry.id);
  for (const store of others) store.clear();
  await new Promise((resolve) => { transaction.oncomplete = resolve; });
}
"""

LOST_IN_THE_MIDDLE = """
globalThis.losses = 0;
const send = XMLHttpRequest.prototype.send;
XMLHttpRequest.prototype.send = function (body) {
  if (globalThis.losses-- > 0) {
    const progress = new ProgressEvent("progress", { loaded: body.size / 2, total: body.size });
    if (!globalThis.hasBegun) this.upload.onprogress(progress); // the next ones do not even begin
    globalThis.hasBegun = true;
    this.onerror(new ProgressEvent("error"));
  } else send.call(this, body);
};
"""


@pytest_asyncio.fixture(loop_scope="session")
async def edited(studio: Studio) -> Studio:
    """Return the studio with one edit in its history, shown on the stage."""
    await studio.task("White balance")
    await studio.run.click()
    await studio.shows_result()
    return studio


async def remembers(studio: Studio, **changes: str) -> None:
    """Load the page with outdated facts about the edit, and without the bytes that the browser kept."""
    await studio.page.evaluate(CHANGE, changes)
    await studio.open()


async def test_a_running_edit_that_the_server_does_not_know(edited: Studio) -> None:
    """A sentence explains that it has expired, and the photo is open for another try."""
    await remembers(edited, id=UNKNOWN_ID, status="running")
    await edited.says("This edit is unknown to the server or has expired; run it again.")
    await expect(edited.film).to_have_attribute("data-status", "expired")
    await edited.button("Try again").click()

    await edited.shows_result()


async def test_a_result_that_has_expired(edited: Studio) -> None:
    """Opening it shows the sentence and marks the edit as expired."""
    await remembers(edited, id=UNKNOWN_ID)
    await edited.film.click()
    await edited.says("This edit is unknown to the server or has expired; run it again.")

    await expect(edited.film).to_have_attribute("data-status", "expired")


async def test_a_result_that_expires_while_it_is_shown(edited: Studio) -> None:
    """The page still has its pixels: the download is a PNG, with a sentence. So it is while the server is away."""
    server = edited.page.context.request
    (job,) = (await (await server.get(f"{edited.url}/v1/jobs?limit=1")).json())["jobs"]
    assert (await server.delete(f"{edited.url}/v1/jobs/{job['id']}?purge=true")).status == 204
    for away in (False, True):
        await edited.page.context.set_offline(offline=away)
        async with edited.page.expect_download() as download:
            await edited.download.click()
        saved = await download.value

        assert saved.suggested_filename == "rocket-balanced.png"
        with Image.open(await saved.path()) as picture:
            assert (picture.format, picture.size) == ("PNG", (640, 427))
        await edited.says("The server could not send the picture in this format; it was saved as PNG.")
        await edited.button("Dismiss").click()
    await edited.page.context.set_offline(offline=False)


async def test_a_photo_that_the_server_has_lost(edited: Studio) -> None:
    """The photo on the stage does not change."""
    await remembers(edited, image=UNKNOWN_PHOTO)
    await edited.film.click()
    await edited.says("The photo is no longer on the server; open it again.")

    await edited.shows("rocket")


async def test_an_upload_that_loses_its_connection(visit: Callable[..., Awaitable[Studio]]) -> None:
    """The photo is sent once more by itself, twice here, and nothing is asked of the person."""
    studio = await visit()
    await studio.page.add_init_script(LOST_IN_THE_MIDDLE)
    await studio.open()
    await studio.page.evaluate("losses = 2")
    await studio.choose_sample("coffee")
    await studio.click(300, 150)
    await studio.is_marked()

    assert await studio.page.evaluate("losses") < 0
    await expect(studio.notice).to_be_empty()


async def test_an_upload_waits_while_the_browser_is_offline(
    visit: Callable[..., Awaitable[Studio]], tmp_path: Path
) -> None:
    """However long the tunnel is; the page says so, and the edit goes on by itself."""
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "tunnel.png")
    studio = await visit()
    await studio.page.add_init_script(LOST_IN_THE_MIDDLE)
    await studio.open()
    await studio.page.context.set_offline(offline=True)
    await studio.page.evaluate("losses = 1")
    await studio.choose_file(tmp_path / "tunnel.png")
    await studio.shows("tunnel")
    await studio.brush((100, 100), (140, 100), size=40)
    await studio.run.click()
    await expect(studio.progress).to_contain_text("Waiting for the connection")
    await studio.shoot("waiting")
    await studio.page.context.set_offline(offline=False)

    await studio.shows_result()


async def test_an_edit_that_cannot_be_done(studio: Studio) -> None:
    """The engine's cause is shown now and when the edit is opened later."""
    reason = "The mask covers the whole image: nothing is left to fill it from; change that and run it again."
    for y in range(20, 427, 60):
        await studio.brush((5, y), (635, y))
    await studio.page.get_by_label("Grow or shrink").fill("30")
    await studio.run.click()
    await studio.says(reason)
    await expect(studio.progress).to_be_hidden()
    await studio.open()
    await studio.film.click()

    await studio.says(reason)
