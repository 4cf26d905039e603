"""The page in German and for fingers, the comparison with the original, and several files at once."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.browser.pictures import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.browser.studio import Studio

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
DROP = """
(canvas, files) => {
  const dataTransfer = new DataTransfer();
  for (const [name, text] of files) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    dataTransfer.items.add(new File([bytes], name, { type: name.endsWith(".jpg") ? "image/jpeg" : "text/plain" }));
  }
  canvas.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
}
"""


async def test_the_browsers_language_is_used(visit: Callable[..., Awaitable[Studio]]) -> None:
    """A German browser gets German; the switch changes it, and a reload keeps the choice."""
    studio = await visit(locale="de-AT")
    await studio.open()
    await expect(studio.page.locator("html")).to_have_attribute("lang", "de")
    await expect(studio.hint).to_have_text("Klicken Sie an, was weg soll.")
    await studio.click(330, 200)
    await studio.is_marked("% des Fotos")
    await studio.run.click()
    await expect(studio.page.get_by_role("slider", name="Vorher und nachher")).to_be_visible()
    await studio.shoot("german")
    await studio.page.get_by_role("button", name="English").click()
    await expect(studio.page.locator("html")).to_have_attribute("lang", "en")

    await studio.shows_result()
    await expect(studio.button("Deutsch")).to_be_visible()


async def test_only_one_language_is_loaded(visit: Callable[..., Awaitable[Studio]]) -> None:
    """The other one costs nothing until it is used."""
    studio = await visit()
    loaded: list[str] = []
    studio.page.on("request", lambda sent: loaded.append(sent.url))
    await studio.open()

    assert f"{studio.url}/static/js/page/texts.js" in loaded
    assert not [url for url in loaded if "/texts/" in url]


async def test_a_key_held_shows_the_original(studio: Studio) -> None:
    """In the result and on the version that is edited further; the divider stays where it is."""
    await studio.click(330, 200)
    await studio.is_marked()
    before = await studio.colour((330, 60))
    await studio.run.click()
    await studio.shows_result()
    at = await studio.divider.get_attribute("aria-valuenow")
    result = await studio.read_stage()
    await studio.page.keyboard.down("v")
    await expect(studio.page.locator("#hold")).to_have_attribute("aria-pressed", "true")
    assert await studio.read_stage() != result
    await studio.page.keyboard.up("v")
    await expect(studio.divider).to_have_attribute("aria-valuenow", str(at))
    assert await studio.read_stage() == result
    await studio.button("Continue editing the result").click()
    await expect(studio.divider).to_be_hidden()
    edited = await studio.read_stage()
    await studio.page.locator("#hold").hover()
    await studio.page.mouse.down()
    await expect(studio.page.locator("#hold")).to_have_attribute("aria-pressed", "true")
    await studio.page.wait_for_function("document.querySelector('#photo-pane canvas').toDataURL().length > 0")
    assert await studio.colour((330, 60)) == before
    await studio.page.mouse.up()

    assert await studio.read_stage() == edited


async def test_several_dropped_files_are_a_queue(studio: Studio) -> None:
    """The first is opened, the others wait in the strip and open from there."""
    files = [
        (f"{name}.jpg", base64.b64encode((SAMPLES / f"{name}.jpg").read_bytes()).decode())
        for name in ("cat", "coffee", "astronaut")
    ]
    await studio.canvas().evaluate(DROP, files)
    await studio.shows("cat")
    await studio.says("Photos that wait in the strip below: 2.")
    await expect(studio.originals).to_have_count(2)
    await studio.shoot("queue")
    await studio.page.get_by_role("button", name="The original, coffee").click()

    await studio.shows("coffee")


async def test_a_file_among_photos_that_is_no_image_is_counted(studio: Studio) -> None:
    """It vanished without a word; the photo is opened as without it."""
    photo = base64.b64encode((SAMPLES / "cat.jpg").read_bytes()).decode()
    await studio.canvas().evaluate(DROP, [("notes.txt", "dGV4dA=="), ("cat.jpg", photo)])
    await studio.shows("cat")

    await studio.says("Files that this browser cannot show as images: 1.")


async def test_a_click_on_nothing_is_a_hint(studio: Studio) -> None:
    """After a click on the sky, the page gives advice instead of an error."""
    await studio.page.route(
        "**/v1/masks",
        lambda route: route.fulfill(
            status=422, content_type="application/problem+json", body='{"code": "nothing_found", "detail": "Nothing."}'
        ),
    )
    await studio.click(60, 60)
    await studio.says("Nothing was found there")

    await expect(studio.notice).to_have_attribute("role", "status")


async def test_growing_in_many_steps_is_one_undo(studio: Studio) -> None:
    """Arrow keys move the slider one step at a time."""
    await studio.brush((120, 200), (520, 200), size=60)
    drawn = await studio.share()
    slider = studio.page.get_by_label("Grow or shrink")
    await slider.focus()
    await studio.press(*["ArrowRight"] * 12)
    await expect(studio.mask_facts).not_to_have_text(f"{drawn} % of the photo")
    await studio.press("Control+z")

    await expect(studio.mask_facts).to_have_text(f"{drawn} % of the photo")
    await expect(slider).to_have_value("0")
