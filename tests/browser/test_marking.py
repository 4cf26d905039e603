"""All ways to mark a part of a photo, with the mouse and with the keyboard alone."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from playwright.async_api import Response

    from tests.browser.studio import Studio

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
ROCKET = (330, 200)
COUNT_SCALING = """
() => {
  globalThis.scaled = 0;
  const { drawImage } = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.drawImage = function (picture, ...place) {
    if (place.length === 4 && this.imageSmoothingQuality === "high") globalThis.scaled++;
    drawImage.call(this, picture, ...place);
  };
}
"""


async def test_a_click_finds_the_object(studio: Studio) -> None:
    """The second click's time is printed: the server has the photo by then."""
    await studio.click(*ROCKET)
    await studio.is_marked()
    before = await studio.mask_facts.inner_text()
    await studio.press("Delete")
    await expect(studio.mask_facts).to_have_text("")
    began = time.perf_counter()
    await studio.click(330, 320)
    await studio.is_marked()
    print(f"\nmask shown {1000 * (time.perf_counter() - began):.0f} ms after the second click")

    assert await studio.mask_facts.inner_text() == before


async def test_a_click_can_take_away(studio: Studio) -> None:
    """A click with Alt marks the background: here the saucer of a cup."""
    await studio.choose_sample("coffee")
    await studio.click(300, 150)
    before = await studio.share()
    await studio.page.keyboard.down("Alt")
    await studio.click(170, 300)
    await studio.page.keyboard.up("Alt")
    await expect(studio.mask_facts).not_to_have_text(f"{before} % of the photo")

    assert 0 < await studio.share() < before


async def test_a_box_finds_the_object_in_it(studio: Studio) -> None:
    """The mask is much smaller than the box: only the object."""
    await studio.choose_sample("coffee")
    await studio.box((120, 20), (480, 340))

    assert 0 < await studio.share() < 100 * (360 * 320) / (600 * 400)


async def test_several_things_may_be_meant(studio: Studio) -> None:
    """Further candidates appear later; choosing one changes the mask and can be undone."""
    await studio.click(*ROCKET)
    await studio.is_marked()
    candidates = studio.page.get_by_role("group", name="Which one is meant?").get_by_role("button")
    await expect(candidates.first).to_have_attribute("aria-pressed", "true")
    before = await studio.read_stage()
    await candidates.last.click()
    await expect(candidates.last).to_have_attribute("aria-pressed", "true")
    assert await studio.read_stage() != before
    await studio.press("Control+z")
    await expect(candidates.first).to_have_attribute("aria-pressed", "true")

    assert await studio.read_stage() == before


async def test_brush_and_eraser_do_as_the_hand_does(studio: Studio) -> None:
    """The eraser removes painted areas without a request to the server."""
    asked: list[str] = []
    studio.page.on("request", lambda request: asked.append(request.url))
    await studio.brush((120, 120), (520, 120))
    painted = await studio.share()
    await studio.press("e")
    await studio.drag((320, 60), (320, 180))
    await studio.shoot("brushed")

    assert 0 < await studio.share() < painted
    assert [url for url in asked if url.endswith("/masks")] == []


async def test_a_photo_is_scaled_once_for_all_frames_of_a_stroke(studio: Studio) -> None:
    """Without a GPU that takes longer than all other layers together. The copy has the pixels of the photo."""
    await studio.brush((120, 120), (140, 120))
    await studio.press("Control+z", "c")
    await studio.page.mouse.move(5, 5)
    before = await studio.read_stage()
    await studio.press("b")
    await studio.page.evaluate(COUNT_SCALING)
    await studio.drag((120, 120), (220, 160), (320, 120), (420, 160))
    await studio.is_marked()
    await studio.press("Control+z", "c")
    await studio.page.mouse.move(5, 5)

    assert await studio.read_stage() == before
    assert await studio.page.evaluate("scaled") <= 6  # tool, mask and undo may change the size of the stage


async def test_the_main_object_is_found_without_pointing(studio: Studio) -> None:
    """With one click on a button."""
    await studio.choose_sample("cat")
    await studio.button("Find the main object").click()

    assert await studio.share() > 0


async def test_a_rough_mask_is_fitted_to_the_object(studio: Studio) -> None:
    """A rough brush mask is fitted to the object's edges."""
    await studio.choose_sample("coffee")
    await studio.brush((250, 130), (380, 160))
    before = await studio.mask_facts.inner_text()
    await studio.button("Fit to object").click()

    await expect(studio.mask_facts).not_to_have_text(before)
    await studio.is_marked()


async def test_every_step_can_be_undone_and_done_again(studio: Studio) -> None:
    """Undo to the empty mask and redo to the last step, with buttons and keys."""
    steps = []
    for y in (80, 200, 320):
        await studio.brush((80, y), (560, y), size=40)
        steps.append(await studio.mask_facts.inner_text())
    assert len(set(steps)) == 3

    for seen in [*steps[1::-1], ""]:
        await studio.button("Undo").click()
        await expect(studio.mask_facts).to_have_text(seen)
    await expect(studio.button("Undo")).to_have_attribute("aria-disabled", "true")
    for seen in steps:
        await studio.press("Control+Shift+Z")
        await expect(studio.mask_facts).to_have_text(seen)
    await studio.button("Clear the mask").click()
    await expect(studio.mask_facts).to_have_text("")
    await studio.press("Control+Z")
    await expect(studio.mask_facts).to_have_text(steps[-1])


async def test_a_mask_grows_and_shrinks(studio: Studio) -> None:
    """With the slider; the steps of the mask do not change."""
    await studio.brush((120, 200), (520, 200), size=60)
    drawn = await studio.share()
    await studio.page.get_by_label("Grow or shrink").fill("25")
    await expect(studio.mask_facts).not_to_have_text(f"{drawn} % of the photo")
    grown = await studio.share()
    await studio.page.get_by_label("Grow or shrink").fill("-20")
    await expect(studio.mask_facts).not_to_have_text(f"{grown} % of the photo")

    assert await studio.share() < drawn < grown


async def test_all_tools_work_from_the_keyboard(studio: Studio) -> None:
    """Arrow keys move a crosshair, Enter clicks; no tool needs a mouse."""
    await studio.tab_to(studio.canvas())
    await studio.press("a")
    await studio.is_marked()
    await studio.press("Delete")
    await expect(studio.mask_facts).to_have_text("")
    await studio.press("c", "ArrowUp", "Enter")
    await studio.is_marked()
    clicked = await studio.mask_facts.inner_text()
    await studio.press("b", "]", "]", "Enter", *["Shift+ArrowLeft"] * 4, "Enter")
    await expect(studio.mask_facts).not_to_have_text(clicked)
    painted = await studio.share()
    await studio.press("e", "Enter", *["Shift+ArrowRight"] * 4, "Enter")
    await studio.shoot("keyboard")
    assert await studio.share() < painted
    await studio.press("Delete", "r", *["Shift+ArrowUp"] * 4, *["Shift+ArrowLeft"] * 2, "Enter")
    await studio.press(*["Shift+ArrowDown"] * 8, *["Shift+ArrowRight"] * 4, "Enter")
    await studio.is_marked()
    await studio.press("Control+z")
    await expect(studio.mask_facts).to_have_text("")


async def test_the_photo_can_be_seen_from_near(studio: Studio) -> None:
    """Zoom with wheel, keys and buttons, and back to the whole photo."""
    whole = await studio.zoom.inner_text()
    await studio.page.mouse.move(*await studio.on_screen((330, 200)))
    await studio.page.mouse.wheel(0, -400)
    await expect(studio.zoom).not_to_have_text(whole)
    await studio.press("0")
    await expect(studio.zoom).to_have_text(whole)
    await studio.button("Zoom in").click()
    await expect(studio.zoom).not_to_have_text(whole)
    await studio.zoom.click()
    await expect(studio.zoom).to_have_text(whole)


def is_of_the_rocket(answer: Response) -> bool:
    """Return whether this is the outline at the rocket."""
    if not answer.url.endswith("/v1/masks/preview"):
        return False
    x, y = json.loads(answer.request.post_data or "")["point"]
    return bool(abs(x - 330) < 5 and abs(y - 250) < 5)


async def test_the_object_under_the_mouse_is_outlined(studio: Studio) -> None:
    """After the engine has seen the photo; the outline goes with the mouse, and it marks nothing."""
    await studio.click(*ROCKET)
    await studio.is_marked()
    await studio.press("Delete")
    await expect(studio.mask_facts).to_have_text("")
    await studio.page.mouse.move(*await studio.on_screen((30, 400)))
    plain = await studio.read_stage()
    async with studio.page.expect_response(is_of_the_rocket) as answered:  # one of the first place may be under way
        await studio.page.mouse.move(*await studio.on_screen((330, 250)))
    found = await (await answered.value).json()
    await studio.shoot("outlined")

    assert found["status"] == "found"
    assert await studio.read_stage() != plain
    await expect(studio.mask_facts).to_have_text("")
