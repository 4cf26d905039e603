"""Previews of a running edit: drawn into the photo beside the original."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.painter import GREEN, QUICK, Painter
from tests.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.browser.studio import Studio
    from tests.stack import RunningStack

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
MARKED, FREE = (320, 200), (560, 60)
OF_A_JPEG = 12


@pytest.fixture(scope="module")
def painting_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Provide the whole system with a worker that sends previews."""
    engine = f"{Painter.__module__}:{Painter.__name__}"
    with running_stack(tmp_path_factory.mktemp("stack"), A100WORKER_BACKEND=engine) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def painting(visit: Callable[..., Awaitable[Studio]], painting_stack: RunningStack) -> Studio:
    """Return the studio with a mask."""
    studio = await visit(painting_stack.http_url)
    await studio.open()
    await studio.brush((320, 100), (320, 330), size=60)
    await studio.is_marked()
    return studio


def is_green(colour: tuple[int, int, int]) -> bool:
    """Within the accuracy of a JPEG."""
    return max(abs(one - other) for one, other in zip(colour, GREEN, strict=True)) <= OF_A_JPEG


async def shows_so_far(studio: Studio) -> None:
    """Wait until a preview is shown."""
    await expect(studio.page.get_by_text("So far", exact=True)).to_be_visible()
    await expect(studio.divider).to_be_visible()


async def cancel_edit(studio: Studio) -> None:
    """Cancel the edit and wait for the effect: the next test needs the worker."""
    await studio.cancel.click()
    await expect(studio.progress).to_be_hidden()


async def test_progress_is_shown_and_read_out(painting: Studio) -> None:
    """A progress bar with a value, also for screen readers, and the current action."""
    await painting.run.click()
    await painting.is_working()
    await painting.shoot("working")

    await expect(painting.track).to_have_attribute("aria-valuetext", "25 percent. Step 1 of 4")
    await expect(painting.hint).to_have_text("You can close this page: the edit continues, and you find it here later.")
    await cancel_edit(painting)


async def test_only_what_is_marked_looks_different(painting: Studio) -> None:
    """The preview is small and coarse; outside the mask the photo stays sharp."""
    outside = await painting.colour(FREE)
    await painting.run.click()
    await shows_so_far(painting)
    await painting.shoot("so-far")

    assert is_green(await painting.colour(MARKED))
    assert await painting.colour(FREE) == outside
    await cancel_edit(painting)


async def test_a_white_balance_changes_all_of_it(painting: Studio) -> None:
    """Also after marking. The divider shows the original."""
    await painting.task("White balance")
    await painting.run.click()
    await shows_so_far(painting)
    await painting.divider.press("Home")

    assert is_green(await painting.colour(FREE))
    await painting.divider.press("End")
    assert not is_green(await painting.colour(FREE))
    await cancel_edit(painting)


async def test_it_is_there_again_after_a_reload(painting: Studio) -> None:
    """The broker keeps the newest preview of a job."""
    await painting.run.click()
    await shows_so_far(painting)
    await painting.page.reload()

    await shows_so_far(painting)
    assert is_green(await painting.colour(MARKED))
    await cancel_edit(painting)


async def test_a_cancel_takes_it_away(painting: Studio) -> None:
    """The photo and its mask are shown again."""
    before = await painting.colour(MARKED)
    await painting.run.click()
    await shows_so_far(painting)
    await cancel_edit(painting)

    await expect(painting.divider).to_be_hidden()
    assert await painting.colour(MARKED) == before


async def test_an_estimate_that_was_wrong_is_taken_back(painting: Studio) -> None:
    """Not `nearly done` without end: the first edit was quick, the next one is slow."""
    await painting.page.get_by_label("In words").fill(QUICK)
    await painting.run.click()
    await painting.shows_result()
    await painting.page.get_by_label("In words").fill("")
    await painting.run.click()

    await expect(painting.progress).to_contain_text("longer than expected")
    await cancel_edit(painting)
