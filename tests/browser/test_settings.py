"""The panel offers only what the engine that serves obeys, and sends nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from tests.browser.painter import QUICK, Painter
from tests.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.browser.studio import Studio
    from tests.stack import RunningStack

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
IGNORED = ("In words", "Avoid", "Steps", "Guidance")


@pytest.fixture(scope="module")
def obeying_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Provide the whole system with an engine that obeys every setting."""
    engine = f"{Painter.__module__}:{Painter.__name__}"
    with running_stack(tmp_path_factory.mktemp("stack"), A100WORKER_BACKEND=engine) as running:
        yield running


async def run_and_read(studio: Studio) -> dict[str, Any]:
    """Click the run button and return the submission."""
    async with studio.page.expect_request(lambda sent: sent.method == "POST" and sent.url.endswith("/v1/jobs")) as sent:
        await studio.run.click()
    submission: dict[str, Any] = json.loads((await sent.value).post_data or "{}")
    return submission


async def test_words_are_offered_by_no_engine_that_ignores_them(studio: Studio) -> None:
    """The classical engine can fill in another way, and that is all that is offered and sent."""
    await expect(studio.page.get_by_label("Fill in another way")).to_be_visible()
    await studio.page.get_by_text("Advanced").click()
    await expect(studio.page.get_by_label("Seed", exact=True)).to_be_visible()
    for name in IGNORED:
        await expect(studio.page.get_by_label(name)).to_be_hidden()
    await studio.shoot("removal")
    await studio.brush((300, 150), (340, 150), size=40)
    await studio.page.get_by_label("Fill in another way").check()
    submission = await run_and_read(studio)
    await studio.shows_result()

    assert submission["variant"] == 1
    assert not {"prompt", "negative_prompt", "steps", "guidance"} & submission.keys()


async def test_an_insertion_without_settings_shows_none(studio: Studio) -> None:
    """No empty heading or fold either."""
    await expect(studio.page.get_by_label("Fill in another way")).to_be_visible()
    await studio.task("Insert")

    await expect(studio.page.get_by_label("Fill in another way")).to_be_hidden()
    await expect(studio.page.get_by_text("Advanced")).to_be_hidden()
    await studio.shoot("insertion")


async def test_words_are_offered_and_sent_where_they_are_obeyed(
    visit: Callable[..., Awaitable[Studio]], obeying_stack: RunningStack
) -> None:
    """With an engine that reads them."""
    studio = await visit(obeying_stack.http_url)
    await studio.open()
    await studio.brush((300, 150), (340, 150), size=40)
    await studio.page.get_by_text("Advanced").click()
    for name in IGNORED:
        await expect(studio.page.get_by_label(name)).to_be_visible()
    await studio.page.get_by_label("In words").fill(QUICK)
    await studio.page.get_by_label("Steps").fill("7")
    submission = await run_and_read(studio)
    await studio.shows_result()

    assert (submission["prompt"], submission["steps"]) == (QUICK, 7)
