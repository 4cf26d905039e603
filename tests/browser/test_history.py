"""One history of strokes and edits: undo, redo, branches, and its state after a reload, a full disk and another key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.browser.pictures import SAMPLES
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.browser.studio import Studio

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
BLOCKED = "Object.defineProperty(globalThis, 'indexedDB', { get() { throw new DOMException('', 'SecurityError'); } });"
FULL = """
const put = IDBObjectStore.prototype.put;
IDBObjectStore.prototype.put = function (...args) {
  if (globalThis.isFull) throw new DOMException('', 'QuotaExceededError');
  return put.apply(this, args);
};
"""
SAVED = """
async (text) => {
  const done = (request) => new Promise((resolve) => { request.onsuccess = () => resolve(request.result); });
  const database = await done(indexedDB.open("artmancer"));
  const desks = await done(database.transaction("desks").objectStore("desks").getAll());
  database.close();
  return desks.some((desk) => JSON.stringify(desk).includes(text));
}
"""

OVERTAKEN = """
async () => {
  const { History } = await import("/static/js/kept/history.js");
  const kept = { id: "j1", roll: "r1", owner: "", status: "queued", at: 1 };
  const reads = [];
  const store = {
    all: (name) => new Promise((resolve) => {
      const read = name === "versions" ? [{ ...kept }] : [];
      reads.push(() => resolve(read));
    }),
    put: async (_, __, entry) => { Object.assign(kept, entry); },
    remove: async () => {},
  };
  const turn = () => new Promise((resolve) => setTimeout(resolve));
  const history = new History(store);
  const answer = async () => { while (reads.length) { reads.splice(0).forEach((read) => read()); await turn(); } };
  await turn();
  await answer();
  await history.ready;
  new BroadcastChannel("artmancer.history").postMessage("");
  while (!reads.length) await turn();
  history.update("j1", { status: "done" });
  await answer();
  return history.find("j1").status;
}
"""


async def saves(studio: Studio, text: str) -> None:
    """Wait until the browser has kept something that holds this text."""

    async def is_saved() -> bool:
        return bool(await studio.page.evaluate(SAVED, text))

    await wait_until(is_saved, f"the browser has kept {text}")


async def remove(studio: Studio, y: int) -> None:
    """Mark a part and remove it."""
    await studio.brush((100, y), (140, y), size=40)
    await studio.run.click()
    await studio.shows_result()


async def is_version(studio: Studio, number: int) -> None:
    """Wait until this version is the photo to edit; 0 is the photo as it was opened."""
    await expect(studio.page.locator("body")).to_have_attribute("data-view", "edit")
    await expect(studio.facts).to_contain_text(re.compile(rf"version {number}$" if number else r"\d$"))


async def test_undo_leads_back_to_the_original_and_redo_to_the_newest(studio: Studio) -> None:
    """Over strokes and two edits, with the keys; each mask is there again."""
    await remove(studio, 80)
    await studio.button("Continue editing the result").click()
    await is_version(studio, 1)
    await remove(studio, 200)
    await expect(studio.film).to_have_count(2)
    await studio.press("Control+z")  # leaves the result
    await studio.is_marked()
    await is_version(studio, 1)
    await studio.press("Control+z")  # takes the stroke back
    await expect(studio.mask_facts).to_have_text("")
    await studio.press("Control+z")  # takes the first edit back
    await is_version(studio, 0)
    await studio.is_marked()
    await studio.press("Control+z")
    await expect(studio.mask_facts).to_have_text("")
    await expect(studio.button("Undo")).to_have_attribute("aria-disabled", "true")
    await studio.press("Control+Shift+Z")
    await studio.is_marked()
    await studio.press("Control+Shift+Z")
    await studio.shows_result()
    await expect(studio.film.first).to_have_attribute("aria-current", "true")
    await studio.press("Control+Shift+Z")
    await studio.shows_result()

    await expect(studio.film.last).to_have_attribute("aria-current", "true")
    await expect(studio.button("Redo")).to_have_attribute("aria-disabled", "true")


async def test_an_edit_of_an_earlier_version_is_a_branch(studio: Studio) -> None:
    """The strip keeps both, in order, and says where the branch begins; the download counts versions."""
    await remove(studio, 80)
    await studio.button("Continue editing the result").click()
    await is_version(studio, 1)
    await remove(studio, 200)
    await studio.originals.click()
    await is_version(studio, 0)
    await remove(studio, 320)
    await expect(studio.facts).to_contain_text("version 3")  # the number of the result, not of the edited version
    await studio.shoot("branch")

    await expect(studio.film).to_have_count(3)
    await expect(studio.page.locator(".branch [data-id]")).to_have_attribute(
        "aria-label", re.compile(r"Version 3, Remove, rocket, done, .*from the original")
    )
    await expect(studio.download).to_have_attribute("download", "rocket-removed-3.png")


async def test_a_clock_that_is_set_back_changes_no_order(studio: Studio) -> None:
    """The newest version stays the last one, also after a reload."""
    await remove(studio, 80)
    await studio.button("Continue editing the result").click()
    await is_version(studio, 1)
    await studio.page.clock.set_fixed_time("2001-02-03T04:05:06Z")
    await remove(studio, 200)
    await studio.page.reload()
    await studio.shows_result()

    await expect(studio.film).to_have_text(["1", "2"])
    await expect(studio.page.locator(".branch")).to_have_count(0)


async def test_a_reload_loses_nothing(studio: Studio) -> None:
    """Photo, strokes, task, seed and version, also of a file from the disk that was never uploaded."""
    await studio.choose_file(SAMPLES / "coffee.jpg")
    await studio.shows("coffee")
    await remove(studio, 80)
    await studio.button("Continue editing the result").click()
    await is_version(studio, 1)
    await studio.brush((300, 150), (340, 150), size=40)
    await studio.is_marked()
    share = await studio.mask_facts.inner_text()
    await studio.page.get_by_text("Advanced").click()
    await studio.page.get_by_label("Seed", exact=True).fill("77")
    await saves(studio, '"seed":77')
    await studio.page.reload()
    await studio.shows("coffee")

    await is_version(studio, 1)
    await expect(studio.mask_facts).to_have_text(share)
    await expect(studio.page.get_by_label("Seed", exact=True)).to_have_value("77")
    await studio.press("Control+z", "Control+z")
    await is_version(studio, 0)
    await studio.is_marked()


async def test_a_reload_shows_the_same_result(studio: Studio) -> None:
    """With its receipt, and as part of its task."""
    await studio.choose_sample("coffee")
    await studio.task("White balance")
    await studio.run.click()
    await studio.shows_result()
    shown = str(await studio.film.get_attribute("data-id"))
    await saves(studio, f'"shown":"{shown}"')
    await studio.page.reload()
    await studio.shows_result()

    await studio.shows("coffee")
    await expect(studio.page.get_by_role("radio", name="White balance")).to_be_checked()


async def test_an_earlier_edit_brings_its_settings_back(studio: Studio) -> None:
    """Seed, another way and strength are those of the edit, not the last ones."""
    await studio.page.get_by_text("Advanced").click()
    await studio.page.get_by_label("Seed", exact=True).fill("5")
    await studio.page.get_by_label("Fill in another way").check()
    await remove(studio, 80)
    await studio.task("White balance")
    await studio.page.get_by_label("Strength").fill("30")
    await studio.run.click()
    await studio.shows_result()
    await studio.film.first.click()
    await expect(studio.page.get_by_role("radio", name="Remove")).to_be_checked()
    await studio.shows_result()

    await expect(studio.page.get_by_label("Seed", exact=True)).to_have_value("5")
    await expect(studio.page.get_by_label("Fill in another way")).to_be_checked()
    await studio.film.last.click()
    await expect(studio.page.get_by_label("Strength")).to_have_value("30")


async def test_a_mask_stays_with_its_photo(studio: Studio) -> None:
    """A drawing on one photo is not on another one of the strip, and is there again at the return."""
    async with studio.page.expect_file_chooser() as dialog:
        await studio.button("Open photo").click()
    await (await dialog.value).set_files([SAMPLES / "cat.jpg", SAMPLES / "coffee.jpg", SAMPLES / "rocket.jpg"])
    await studio.shows("cat")
    await expect(studio.originals).to_have_count(2)
    await studio.originals.first.click()
    await studio.shows("coffee")
    await studio.brush((100, 80), (140, 80), size=40)
    await studio.is_marked()
    await studio.originals.last.click()
    await studio.shows("rocket")

    await expect(studio.mask_facts).to_have_text("")
    await studio.originals.first.click()
    await studio.shows("coffee")
    await studio.is_marked()


async def test_forgetting_can_be_undone(studio: Studio) -> None:
    """The notice offers it, and no alert is raised."""
    await remove(studio, 80)
    await studio.button("Forget all").click()
    await expect(studio.film).to_have_count(0)
    await studio.says("One edit was forgotten.")
    await studio.shoot("forgotten")
    await expect(studio.notice).to_have_attribute("role", "status")
    await studio.notice.get_by_role("button", name="Undo").click()

    await expect(studio.film).to_have_count(1)


async def test_a_browser_that_keeps_nothing(visit: Callable[..., Awaitable[Studio]]) -> None:
    """In a private window the page works until it is closed, and shows one notice about it."""
    studio = await visit()
    await studio.page.context.add_init_script(BLOCKED)
    await studio.open()
    await studio.says("This browser keeps no edits here; download what you need before you close the page.")
    await studio.button("Dismiss").click()
    await remove(studio, 80)
    await studio.press("Control+z")

    await studio.is_marked()
    await expect(studio.film).to_have_count(1)
    await expect(studio.notice).to_be_empty()


async def test_a_full_disk_loses_nothing_at_once(visit: Callable[..., Awaitable[Studio]]) -> None:
    """The edit stays until the page is closed, and the notice gives the next step."""
    studio = await visit()
    await studio.page.context.add_init_script(FULL)
    await studio.open()
    await studio.page.evaluate("globalThis.isFull = true")
    await studio.brush((100, 80), (140, 80), size=40)
    await studio.says("The browser has no room left; download what you need, or forget earlier edits.")
    await studio.button("Dismiss").click()
    await studio.run.click()
    await studio.shows_result()

    await expect(studio.film).to_have_count(1)


async def test_a_change_is_not_undone_by_an_older_read(studio: Studio) -> None:
    """A word of another tab makes the page read all versions; one may end while the database answers."""
    assert await studio.page.evaluate(OVERTAKEN) == "done"


async def test_two_tabs_see_one_history(studio: Studio, visit: Callable[..., Awaitable[Studio]]) -> None:
    """An edit of one tab appears in the other, and opens there although that tab has another photo."""
    other = await visit(beside=studio)
    await other.open()
    await other.choose_sample("cat")
    await studio.page.bring_to_front()
    await remove(studio, 80)
    await other.page.bring_to_front()
    await expect(other.film).to_have_count(1)
    await expect(other.film).to_have_attribute("data-status", "done")
    await other.film.click()
    await other.shows_result()

    await other.shows("rocket")
