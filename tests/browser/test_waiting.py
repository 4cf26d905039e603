"""A long edit: progress, queue, cancel, leaving and returning, and crashes of services."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.browser.pictures import enlarge_sample, jpeg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.browser.studio import Studio
    from tests.stack import RunningStack

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
LOST = "The connection was lost; your edit continues"


@pytest.fixture(scope="session")
def large_photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a photo large enough for an edit of some seconds."""
    path = tmp_path_factory.mktemp("photos") / "pad.jpg"
    path.write_bytes(jpeg(enlarge_sample((1200, 800))))
    return path


async def begin(studio: Studio, photo: Path) -> None:
    """Start an edit that takes some seconds."""
    await studio.choose_file(photo)
    await studio.shows("pad")
    for y in (250, 400, 550):
        await studio.brush((250, y), (950, y))
    await studio.run.click()
    await studio.is_working()


async def test_cancel(studio: Studio, large_photo: Path, stack: RunningStack) -> None:
    """The mask remains, and another run can start at once."""
    await begin(studio, large_photo)
    async with stack.paused("a100worker"):
        await studio.cancel.click()
        await expect(studio.progress).to_be_hidden()
        await studio.is_marked()
        await expect(studio.film).to_have_attribute("data-status", "cancelled")

    await expect(studio.run).to_be_visible()


async def test_nothing_is_painted_where_motion_is_unwanted(
    visit: Callable[..., Awaitable[Studio]], large_photo: Path, stack: RunningStack
) -> None:
    """The mask does not pulse while an edit runs, and the processor is the edit's."""
    studio = await visit(reduced_motion="reduce")
    await studio.open()
    await begin(studio, large_photo)
    async with stack.paused("a100worker"):
        paints, _ = await studio.count_paints()
        await studio.cancel.click()
        await expect(studio.progress).to_be_hidden()

    assert paints <= 1  # one may be under way


async def test_the_pulse_keeps_its_pace_after_the_photo_has_moved(
    studio: Studio, large_photo: Path, stack: RunningStack
) -> None:
    """At most 20 paints a second: a paint for another reason begins no second pulse."""
    await begin(studio, large_photo)
    async with stack.paused("a100worker"):
        await studio.page.mouse.move(640, 400)
        for _ in range(20):
            await studio.page.mouse.wheel(0, -20)
        paints, seconds = await studio.count_paints()
        await studio.cancel.click()
        await expect(studio.progress).to_be_hidden()

    assert 1 <= paints <= 20 * seconds + 2


async def test_cancel_by_keyboard(studio: Studio, large_photo: Path, stack: RunningStack) -> None:
    """The button is reached with Tab."""
    await begin(studio, large_photo)
    async with stack.paused("a100worker"):
        await studio.tab_to(studio.cancel)
        await studio.press("Enter")

        await expect(studio.film).to_have_attribute("data-status", "cancelled")


async def test_a_reload_in_the_middle_resumes(studio: Studio, large_photo: Path, stack: RunningStack) -> None:
    """Photo, mask and progress are shown again, and then the result."""
    await begin(studio, large_photo)
    async with stack.paused("a100worker"):
        await studio.page.reload()
        await studio.is_working()
        await studio.shoot("resumed")

    await studio.shows_result()
    await studio.shows("1200")
    await studio.is_marked()


async def test_a_gateway_that_dies_in_the_middle_is_survived(
    studio: Studio, large_photo: Path, stack: RunningStack
) -> None:
    """After SIGKILL the page reconnects to the next gateway and shows the result."""
    await begin(studio, large_photo)
    async with stack.paused("a100worker"), stack.without("gateway"):
        await studio.says(LOST)
        await studio.shoot("lost")

    await studio.shows_result()
    await expect(studio.notice).to_be_empty()


async def test_two_tabs_share_one_history(
    studio: Studio, visit: Callable[..., Awaitable[Studio]], large_photo: Path, stack: RunningStack
) -> None:
    """Both tabs list the edit, and the other tab can follow and cancel it; each edit has its own place in the queue."""
    other = await visit(beside=studio)
    await other.open()
    await studio.page.bring_to_front()
    await begin(studio, large_photo)
    async with stack.paused("a100worker"):
        await other.page.bring_to_front()
        await expect(other.film).to_have_count(1)
        await other.task("White balance")
        await other.run.click()
        await expect(other.progress).to_contain_text("Next in the queue")
        await other.shoot("in-line")
        await other.film.last.click()
        await other.is_working()
        await other.cancel.click()

        await expect(studio.progress).to_be_hidden()
    await expect(studio.film.first).to_have_attribute("data-status", "done")
    await expect(studio.film.last).to_have_attribute("data-status", "cancelled")


async def test_the_history_can_be_forgotten(studio: Studio) -> None:
    """The edits are removed permanently."""
    await studio.task("White balance")
    await studio.run.click()
    await studio.shows_result()
    await studio.button("Forget all").click()
    await expect(studio.film).to_have_count(0)
    await studio.open()

    await expect(studio.film).to_have_count(0)


async def test_many_open_edits_leave_the_page_usable(
    studio: Studio, visit: Callable[..., Awaitable[Studio]], stack: RunningStack
) -> None:
    """With HTTP/1 all tabs share six connections to a server; event streams must not use them all."""
    other = await visit(beside=studio)
    await studio.page.bring_to_front()
    async with stack.paused("a100worker"):
        await studio.task("White balance")
        for number in range(1, 8):
            await studio.choose_sample(("cat", "coffee")[number % 2])
            await studio.run.click()
            await expect(studio.film).to_have_count(number)
        await other.page.bring_to_front()
        await other.open()
        await expect(other.progress).to_be_visible()
        await other.task("Remove")
        await other.choose_sample("rocket")
        await other.click(330, 200)
        await other.is_marked()
    for number in range(7):
        await expect(other.film.nth(number)).to_have_attribute("data-status", "done")

    await studio.page.bring_to_front()
    await studio.shows_result()
