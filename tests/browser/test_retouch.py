"""Removal at the release of the brush: strokes queue, results stack, and nothing that was drawn is lost."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.pictures import SAMPLES, read
from tests.browser.test_history import is_version, saves

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Route

    from tests.browser.studio import Studio
    from tests.stack import RunningStack

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def quick(visit: Callable[..., Awaitable[Studio]]) -> Studio:
    """Return the studio with removal at once; by itself it is off after slow edits, as on a loaded machine."""
    studio = await visit(quick=True)
    await studio.open()
    await studio.page.get_by_label("Remove at once").check()
    return studio


async def spot(studio: Studio, x: int, y: int) -> None:
    """Paint a spot."""
    await studio.brush((x, y), (x + 6, y), size=24)


async def test_a_stroke_is_gone_at_its_release(quick: Studio) -> None:
    """No button, no result to leave; the next stroke begins from the result, which is not uploaded again."""
    uploads: list[str] = []
    await spot(quick, 60, 60)
    await is_version(quick, 1)
    quick.page.on("request", lambda sent: uploads.append(sent.method) if sent.url.endswith("/v1/images") else None)
    await spot(quick, 120, 60)
    await is_version(quick, 2)

    await expect(quick.divider).to_be_hidden()
    await expect(quick.mask_facts).to_have_text("")
    assert uploads == ["POST"]  # the mask


async def test_a_touch_of_the_brush_is_a_stroke(quick: Studio) -> None:
    """Pressed and released at one place, as on a speck of dust."""
    await quick.brush((60, 60), size=24)

    await is_version(quick, 1)


async def test_strokes_queue_while_earlier_ones_run(quick: Studio, stack: RunningStack) -> None:
    """Three strokes while the worker stands still; they are applied in order, and each is a version."""
    async with stack.paused("a100worker"):
        for x in (60, 120, 180):
            await spot(quick, x, 60)
        await expect(quick.hint).to_have_text("Removing… 2 more strokes wait.")
        await quick.shoot("waiting")
    await is_version(quick, 3)

    await expect(quick.film).to_have_count(3)
    await expect(quick.page.locator(".branch")).to_have_count(0)


async def test_waiting_strokes_do_not_pulse_where_motion_is_unwanted(
    visit: Callable[..., Awaitable[Studio]], stack: RunningStack
) -> None:
    """Nothing is painted while they wait, and the processor is the edit's."""
    studio = await visit(quick=True, reduced_motion="reduce")
    await studio.open()
    await studio.page.get_by_label("Remove at once").check()
    async with stack.paused("a100worker"):
        for x in (60, 120):
            await spot(studio, x, 60)
        await expect(studio.hint).to_have_text("Removing… one more stroke waits.")
        paints, _ = await studio.count_paints()
    await is_version(studio, 2)

    assert paints <= 1  # one may be under way


async def test_each_stroke_is_one_undo(quick: Studio) -> None:
    """Back to the original and forward again."""
    original = await quick.read_stage()
    for number, x in enumerate((60, 120), 1):
        await spot(quick, x, 60)
        await is_version(quick, number)
    await quick.press("Control+z")
    await is_version(quick, 1)
    await quick.press("Control+z")
    await is_version(quick, 0)
    await quick.page.mouse.move(5, 5)  # the ring of the brush is not part of the photo
    assert await quick.read_stage() == original
    await quick.press("Control+Shift+Z")
    await is_version(quick, 1)
    await quick.press("Control+Shift+Z")

    await is_version(quick, 2)


async def test_a_second_click_removes_what_the_first_found(quick: Studio) -> None:
    """Elsewhere a click still adds to the mask."""
    await quick.click(330, 200)
    await quick.is_marked()
    await quick.click(330, 220)

    await is_version(quick, 1)
    await expect(quick.mask_facts).to_have_text("")


async def test_nothing_changes_outside_the_strokes(quick: Studio) -> None:
    """The download of the last step is the whole photo, equal to the original beside the strokes."""
    for number, x in enumerate((60, 120), 1):
        await spot(quick, x, 60)
        await is_version(quick, number)
    await quick.film.last.click()
    await quick.shows_result()
    await quick.format.select_option("png")
    async with quick.page.expect_download() as download:
        await quick.download.click()
    file = await download.value
    before, after = read(SAMPLES / "rocket.jpg"), read(await file.path())

    assert file.suggested_filename == "rocket-removed-2.png"
    assert after.size == before.size
    assert after.crop((0, 120, 640, 427)).tobytes() == before.crop((0, 120, 640, 427)).tobytes()
    assert after.crop((40, 40, 150, 80)).tobytes() != before.crop((40, 40, 150, 80)).tobytes()


async def test_a_server_that_goes_away_loses_no_stroke(quick: Studio) -> None:
    """The strokes are marked again, and one click tries once more."""
    await spot(quick, 60, 60)
    await is_version(quick, 1)
    await quick.page.context.set_offline(offline=True)
    await spot(quick, 120, 60)
    await quick.says("The server cannot be reached; check the connection and try again.")
    await quick.is_marked()
    await quick.page.context.set_offline(offline=False)
    await quick.button("Try again").click()

    await is_version(quick, 2)
    await expect(quick.mask_facts).to_have_text("")


async def test_a_stroke_whose_pixels_do_not_come_is_not_done_twice(quick: Studio) -> None:
    """The server has its result already; trying again shows it."""
    await quick.page.route("**/result?patch=true", lambda route: route.abort(), times=1)
    await spot(quick, 60, 60)
    await quick.says("The server cannot be reached; check the connection and try again.")
    await quick.is_marked()
    await quick.button("Try again").click()

    await is_version(quick, 1)
    await expect(quick.film).to_have_count(1)
    await expect(quick.mask_facts).to_have_text("")


async def test_strokes_that_fail_on_another_version_are_not_lost(quick: Studio) -> None:
    """One click shows their version again and tries once more."""
    await spot(quick, 60, 60)
    await is_version(quick, 1)
    submitted, answered = asyncio.Event(), asyncio.Event()

    async def fail(route: Route) -> None:
        submitted.set()
        await answered.wait()
        await route.abort()

    await quick.page.route("**/v1/jobs", fail, times=1)
    await spot(quick, 120, 60)
    await submitted.wait()
    await quick.originals.click()
    await is_version(quick, 0)
    answered.set()
    await quick.says("The server cannot be reached; check the connection and try again.")
    await expect(quick.mask_facts).to_have_text("")
    await quick.button("Try again").click()

    await is_version(quick, 2)
    await expect(quick.page.locator(".branch")).to_have_count(0)


async def test_strokes_go_on_after_the_server_has_forgotten_the_results(quick: Studio) -> None:
    """The browser has their patches alone; the strokes are made again, from the photo on."""
    for number, x in enumerate((60, 120), 1):
        await spot(quick, x, 60)
        await is_version(quick, number)
    server = quick.page.context.request
    jobs = (await (await server.get(f"{quick.url}/v1/jobs?limit=2")).json())["jobs"]
    for job in jobs:
        assert (await server.delete(f"{quick.url}/v1/jobs/{job['id']}?purge=true")).status == 204
        await server.delete(f"{quick.url}/v1/images/{job['result']['sha256']}")
    await spot(quick, 180, 60)

    await is_version(quick, 3)
    await expect(quick.notice).to_be_empty()


async def test_a_reload_keeps_the_strokes_that_wait(quick: Studio, stack: RunningStack) -> None:
    """The running one ends by itself; the others are marked."""
    async with stack.paused("a100worker"):
        for x in (60, 120):
            await spot(quick, x, 60)
        await expect(quick.film).to_have_count(1)
        await saves(quick, '"kind":"line"')
        await quick.page.reload()
        await quick.shows(re.compile("rocket"))
        await quick.is_marked()


async def test_the_choice_is_kept(quick: Studio) -> None:
    """Off means that a stroke only marks, also after a reload."""
    await quick.page.get_by_label("Remove at once").uncheck()
    await quick.page.reload()
    await quick.shows("rocket")
    await expect(quick.page.get_by_label("Remove at once")).not_to_be_checked()
    await spot(quick, 60, 60)

    await quick.is_marked()
    await is_version(quick, 0)


@pytest.mark.parametrize(("typical_s", "is_on"), [(1.2, True), (40.0, False)])
async def test_the_switch_is_on_where_edits_are_quick(
    visit: Callable[..., Awaitable[Studio]], typical_s: float, *, is_on: bool
) -> None:
    """As long as the person has not chosen."""
    studio = await visit(quick=True)
    removal = {"engines": ["e"], "parameters": [], "typical_s": typical_s, "formats": ["image/png"]}
    await studio.page.route(
        "**/v1/capabilities",
        lambda route: route.fulfill(json={"tasks": {"removal": removal}, "upload_formats": ["PNG"]}),
    )
    async with studio.page.expect_response("**/v1/capabilities"):
        await studio.open()

    await expect(studio.page.get_by_label("Remove at once")).to_be_visible()
    await expect(studio.page.get_by_label("Remove at once")).to_be_checked(checked=is_on)
