"""Each task from the first click to the downloaded image, with the mouse and with the keyboard alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image
from playwright.async_api import expect

from tests.browser.pictures import SAMPLES, read
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.studio import Studio

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
NOTHING_ELSE = "0 pixels changed outside the edited region"


async def download_picture(studio: Studio) -> tuple[str, Image.Image]:
    """Return the name and the image of the Download link, with its transparency."""
    async with studio.page.expect_download() as download:
        await studio.download.press("Enter")
    file = await download.value
    with Image.open(await file.path()) as picture:
        picture.load()
        return file.suggested_filename, picture


async def download_result(studio: Studio) -> tuple[str, Image.Image]:
    """Return the name and the colours of the image of the Download link."""
    name, picture = await download_picture(studio)
    return name, picture.convert("RGB")


async def test_remove_by_mouse(studio: Studio) -> None:
    """Click the rocket, run, compare, download: the rest of the photo does not change."""
    await studio.click(330, 200)
    await studio.is_marked()
    await studio.shoot("marked")
    await studio.run.click()
    await studio.shows_result()
    await expect(studio.promise).to_have_text(NOTHING_ELSE)
    await studio.format.select_option("png")

    name, picture = await download_result(studio)
    before = read(SAMPLES / "rocket.jpg")
    assert (name, picture.size) == ("rocket-removed.png", before.size)
    assert picture.crop((0, 0, 150, 427)).tobytes() == before.crop((0, 0, 150, 427)).tobytes()


async def test_remove_by_keyboard(studio: Studio) -> None:
    """Without a mouse; the focus is always where the next key is needed."""
    await studio.tab_to(studio.canvas())
    await studio.press("c", "ArrowUp", "Enter")
    await studio.is_marked()
    await studio.press("Control+Enter")
    await studio.shows_result()
    await expect(studio.divider).to_be_focused()
    at = await studio.divider.get_attribute("aria-valuenow")
    await studio.press("ArrowRight", "ArrowRight")
    await expect(studio.divider).not_to_have_attribute("aria-valuenow", str(at))
    await studio.tab_to(studio.download)
    name, _ = await download_result(studio)

    assert name == "rocket-removed.jpg"


async def test_cut_out_by_mouse(studio: Studio) -> None:
    """Click, run, choose a ground, download at full size; the result is found again after a reload."""
    await studio.choose_sample("cat")
    await studio.task("Cut out")
    await studio.click(230, 120)
    await studio.is_marked()
    await studio.run.click()
    await expect(studio.button("Transparent")).to_have_attribute("aria-pressed", "true")
    name, transparent = await download_picture(studio)
    await studio.button("Colour").click()
    await studio.page.get_by_label("Colour", exact=True).last.fill("#3355aa")
    await expect(studio.download).not_to_have_attribute("href", "#")
    _, coloured = await download_picture(studio)
    await studio.shoot("coloured")
    await studio.page.reload()
    await expect(studio.button("Transparent")).to_have_attribute("aria-pressed", "true")
    before = read(SAMPLES / "cat.jpg")

    assert name == "cat-cut-out.png"
    assert (transparent.mode, transparent.size) == ("RGBA", before.size)
    assert transparent.getpixel((440, 10)) == (0, 0, 0, 0)
    assert transparent.getpixel((230, 120)) == (*before.getpixel((230, 120)), 255)  # type: ignore[misc]
    assert coloured.convert("RGB").getpixel((440, 10)) == (0x33, 0x55, 0xAA)
    assert await studio.film.count() == 1


async def test_insert_by_mouse(studio: Studio) -> None:
    """A box in one photo; the object is cut out of a second photo automatically."""
    await studio.choose_sample("coffee")
    await studio.task("Insert")
    await studio.drag((380, 60), (560, 250))
    await studio.is_marked()
    await studio.choose_sample("cat", "reference-picker")
    await studio.has_object()
    await studio.shoot("marked")
    await studio.run.click()
    await studio.shows_result()

    await expect(studio.promise).to_have_text(NOTHING_ELSE)
    assert (await download_result(studio))[0] == "coffee-inserted.jpg"


async def test_insert_by_keyboard(studio: Studio) -> None:
    """The same without a mouse; the object's photo is a sample."""
    await studio.tab_to(studio.page.get_by_role("radio", name="Remove"))
    await studio.press("ArrowRight")
    await studio.tab_to(studio.canvas())
    await studio.press("Enter", *["Shift+ArrowDown"] * 3, *["Shift+ArrowRight"] * 2, "Enter")
    await studio.is_marked()
    await studio.tab_to(studio.sample("astronaut", "reference-picker"))
    await studio.press("Enter")
    await studio.has_object()
    await studio.press("Control+Enter")
    await studio.shows_result()

    await expect(studio.promise).to_have_text(NOTHING_ELSE)


async def test_white_balance_by_mouse(studio: Studio) -> None:
    """At full strength, half strength and zero, where nothing changes."""
    await studio.choose_sample("coffee")
    await studio.task("White balance")
    pictures = []
    for strength in ("100", "50", "0"):
        await studio.page.get_by_label("Strength").fill(strength)
        await studio.run.click()
        await studio.shows_result()
        await studio.format.select_option("png")
        pictures.append((await download_result(studio))[1])
        await studio.shoot(strength)
        await studio.button("Back").click()
    full, half, none = pictures

    assert none.tobytes() == read(SAMPLES / "coffee.jpg").tobytes()
    assert len({full.tobytes(), half.tobytes(), none.tobytes()}) == 3


async def test_a_white_balance_is_shown_while_its_sliders_move(studio: Studio) -> None:
    """The stage has the colours of the job before there is one; the original is there while V is held."""
    places = ((50.0, 350.0), (560.0, 40.0), (300.0, 200.0), (420.0, 300.0))
    await studio.choose_sample("coffee")
    before = [await studio.colour(place) for place in places]
    await studio.task("White balance")
    await studio.page.get_by_label("Strength").fill("60")
    await studio.page.get_by_label("Temperature").fill("40")

    async def is_warm() -> bool:
        return (await studio.colour(places[0]))[2] < before[0][2] - 5

    await wait_until(is_warm, "the stage shows a warmer photo")
    live = [await studio.colour(place) for place in places]
    await studio.page.keyboard.down("v")
    held = [await studio.colour(place) for place in places]
    await studio.page.keyboard.up("v")
    await studio.run.click()
    await studio.shows_result()
    await studio.divider.press("Home")
    done = [await studio.colour(place) for place in places]

    assert held == before
    assert max(abs(one - other) for a, b in zip(live, done, strict=True) for one, other in zip(a, b, strict=True)) <= 2


async def test_a_live_white_balance_leaves_the_ground_of_a_transparent_photo(studio: Studio, tmp_path: Path) -> None:
    """The white behind it is no part of it: half-transparent colours look as in the result of the job."""
    places = ((40.0, 40.0), (200.0, 40.0), (360.0, 40.0))
    layer = Image.new("RGBA", (420, 280), (0, 0, 0, 0))
    layer.paste((150, 170, 200, 128), (140, 0, 280, 280))
    layer.paste((150, 170, 200, 255), (280, 0, 420, 280))
    layer.save(tmp_path / "glass.png")
    await studio.choose_file(tmp_path / "glass.png")
    await studio.shows("glass")
    before = [await studio.colour(place) for place in places]
    await studio.task("White balance")
    await studio.page.get_by_label("Strength").fill("0")
    await studio.page.get_by_label("Temperature").fill("80")

    async def is_warm() -> bool:
        return (await studio.colour(places[2]))[2] < before[2][2] - 5

    await wait_until(is_warm, "the stage shows a warmer photo")
    live = [await studio.colour(place) for place in places]
    await studio.run.click()
    await studio.shows_result()
    await studio.divider.press("Home")
    done = [await studio.colour(place) for place in places]

    assert live[0] == before[0] == (255, 255, 255)
    assert max(abs(one - other) for a, b in zip(live, done, strict=True) for one, other in zip(a, b, strict=True)) <= 2


async def test_white_balance_by_keyboard(studio: Studio) -> None:
    """Task and strength with arrow keys, then Ctrl+Enter."""
    await studio.tab_to(studio.page.get_by_role("radio", name="Remove"))
    await studio.press("ArrowRight", "ArrowRight")
    await expect(studio.page.get_by_label("Strength")).to_be_visible()
    await studio.tab_to(studio.page.get_by_label("Strength"))
    await studio.press(*["ArrowLeft"] * 3)
    await expect(studio.page.locator("#strength-text")).to_have_text("97 %")
    await studio.press("Control+Enter")
    await studio.shows_result()

    assert (await download_result(studio))[0] == "rocket-balanced.jpg"


async def test_the_divider_follows_the_mouse(studio: Studio) -> None:
    """At one end only the original is visible, at the other only the result."""
    await studio.task("White balance")
    await studio.run.click()
    await studio.shows_result()
    for x, percent in ((0, "0"), (639.9, "100"), (320, "50")):
        handle = await studio.divider.bounding_box()
        assert handle is not None
        await studio.page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
        await studio.page.mouse.down()
        await studio.page.mouse.move(*await studio.on_screen((x, 200)), steps=5)
        await studio.page.mouse.up()
        await expect(studio.divider).to_have_attribute("aria-valuenow", percent)


async def test_a_result_can_be_edited_further(studio: Studio) -> None:
    """The result becomes the photo at full size and the next edit uses it."""
    await studio.task("White balance")
    await studio.run.click()
    await studio.shows_result()
    await studio.button("Continue editing the result").click()
    await expect(studio.divider).to_be_hidden()
    await studio.task("Remove")
    await studio.brush((300, 150), (340, 150), size=40)
    await studio.run.click()
    await studio.shows_result()

    await expect(studio.film).to_have_count(2)


async def test_what_is_missing_is_said(studio: Studio) -> None:
    """The button is always active: a click too early shows the missing step."""
    await studio.run.click()
    await studio.says("Nothing is marked yet; click what you want to remove.")
    await studio.task("Insert")
    await studio.run.click()
    await studio.says("There is no place yet; draw a box in your photo where the object should go.")
    await studio.drag((300, 100), (400, 200))
    await studio.run.click()
    await studio.says("There is no object photo yet; choose one beside your photo.")


async def test_a_download_in_another_format(studio: Studio) -> None:
    """As it came at first, which is a JPEG for a JPEG; another choice is kept."""
    await studio.task("White balance")
    await studio.run.click()
    await studio.shows_result()
    await expect(studio.format).to_have_value("original")
    name, picture = await download_result(studio)
    await studio.shoot("formats")

    assert (name, picture.size) == ("rocket-balanced.jpg", (640, 427))
    await studio.format.select_option("webp")
    await studio.page.reload()
    await studio.shows_result()
    await expect(studio.format).to_have_value("webp")
