"""A screen with the colours of Display P3: photos, results and copies keep colours outside sRGB."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import async_playwright, expect

from tests.browser.coloured_files import profiles
from tests.browser.conftest import SWITCHES
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from playwright.async_api import Browser

    from tests.browser.studio import Studio

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
BLOB = re.compile("^blob:")
SIZE = (480, 320)
LEFT, RIGHT = (60.0, 60.0), (420.0, 60.0)
RED, GREY = (255, 0, 0), (190, 170, 140)  # the first is beyond sRGB if it is one of Display P3


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """Start Chromium with a screen of Display P3."""
    async with async_playwright() as playwright:
        switches = (*SWITCHES, "--force-color-profile=display-p3-d65")
        started = await playwright.chromium.launch(executable_path=chromium, args=switches)
        yield started
        await started.close()


def photo(folder: Path, profile: str, left: tuple[int, int, int] = RED) -> Path:
    """Return a file, red on the left and nearly grey on the right, with a profile of `coloured_files`."""
    picture = Image.new("RGB", SIZE, GREY)
    picture.paste(left, (0, 0, SIZE[0] // 2, SIZE[1]))
    options: dict[str, Any] = {"icc_profile": found} if (found := profiles()[profile]) else {}
    picture.save(folder / f"{profile}.png", **options)
    return folder / f"{profile}.png"


@pytest_asyncio.fixture(loop_scope="session")
async def wide(visit: Callable[..., Awaitable[Studio]], tmp_path: Path) -> Studio:
    """Return the studio with a photo in Display P3."""
    studio = await visit()
    await studio.open()
    await studio.choose_file(photo(tmp_path, "wide"))
    await studio.shows("wide")
    return studio


def near(one: tuple[int, int, int], other: tuple[int, int, int], levels: int = 2) -> bool:
    """Return whether two colours differ by rounding only."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) <= levels


async def test_a_wide_photo_stays_wide_through_an_edit(wide: Studio) -> None:
    """The colours are wide before, while a region is marked, and in the result (a patch in the preview)."""
    before = [await wide.colour(LEFT), await wide.colour(RIGHT)]
    await wide.brush((400, 200), (440, 200), size=30)
    await wide.is_marked()
    marked = await wide.colour(LEFT)
    await wide.run.click()
    await wide.shows_result()
    await wide.divider.press("Home")
    after = await wide.colour(LEFT)

    assert (before[0], marked, after) == (RED, RED, RED)
    assert near(before[1], GREY)


@pytest.mark.parametrize("left", [RED, (90, 120, 160)], ids=["beyond sRGB", "within sRGB"])
async def test_a_live_white_balance_has_the_colours_of_its_job(
    visit: Callable[..., Awaitable[Studio]], tmp_path: Path, left: tuple[int, int, int]
) -> None:
    """The gains work on the numbers of the file, also on those that mean colours that sRGB has not."""
    wide = await visit()
    await wide.open()
    await wide.choose_file(photo(tmp_path, "wide", left))
    await wide.shows("wide")
    await wide.task("White balance")
    await wide.page.get_by_label("Temperature").fill("-60")

    async def is_cold() -> bool:
        return (await wide.colour(RIGHT))[2] > GREY[2] + 5

    await wait_until(is_cold, "the stage shows a colder photo")
    live = [await wide.colour(LEFT), await wide.colour(RIGHT)]
    await wide.run.click()
    await wide.shows_result()
    await wide.divider.press("Home")
    done = [await wide.colour(LEFT), await wide.colour(RIGHT)]

    assert all(near(one, other) for one, other in zip(live, done, strict=True)), (live, done)


async def test_a_cut_out_on_a_colour_is_saved_wide(wide: Studio) -> None:
    """The page itself composes that file."""
    await wide.task("Cut out")
    await wide.brush((60, 60), (180, 60), size=60)
    await wide.is_marked()
    await wide.run.click()
    await expect(wide.button("Colour")).to_be_visible()
    await expect(wide.download).to_have_attribute("href", BLOB)
    transparent = str(await wide.download.get_attribute("href"))
    await wide.button("Colour").click()
    await expect(wide.download).not_to_have_attribute("href", transparent)
    await expect(wide.download).to_have_attribute("href", BLOB)
    async with wide.page.expect_download() as saved:
        await wide.download.click()
    with Image.open(await (await saved.value).path()) as picture:
        profile, colour = picture.info.get("icc_profile"), picture.convert("RGB").getpixel((120, 60))

    assert profile
    assert isinstance(colour, tuple)
    assert near((int(colour[0]), int(colour[1]), int(colour[2])), RED)


async def test_other_photos_look_as_ever(visit: Callable[..., Awaitable[Studio]], tmp_path: Path) -> None:
    """The red of sRGB is a paler one of Display P3, as the browser shows it anywhere else."""
    studio = await visit()
    await studio.open()
    await studio.choose_file(photo(tmp_path, "none"))
    await studio.shows("none")

    assert near(await studio.colour(LEFT), (234, 51, 35))
