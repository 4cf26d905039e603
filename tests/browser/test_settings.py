"""The panel offers only the settings that the serving engine obeys, and sends no others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from tests.browser.painter import QUICK, Painter
from tests.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from playwright.async_api import Request

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


async def test_three_variations_are_three_versions(studio: Studio) -> None:
    """Of the same photo and mask, each another one; they are chosen in the strip."""
    await studio.brush((300, 150), (340, 150), size=40)
    sent: list[dict[str, Any]] = []

    def note(request: Request) -> None:
        if request.url.endswith("/v1/jobs"):
            sent.append(json.loads(request.post_data or "{}"))

    studio.page.on("request", note)
    await studio.button("Three variations").click()
    await studio.shows_result()
    await expect(studio.film).to_have_count(3)
    for number in range(3):
        await expect(studio.film.nth(number)).to_have_attribute("data-status", "done")
    await studio.film.last.click()
    await studio.shows_result()
    await expect(studio.film.last).to_have_attribute("aria-current", "true")

    assert len({(each["seed"], each["variant"]) for each in sent}) == 3
    assert len({each["mask"] for each in sent}) == 1


async def test_a_found_mask_is_announced(studio: Studio) -> None:
    """A screen reader says how much is marked."""
    await studio.click(330, 200)

    await expect(studio.page.locator("#announcer")).to_have_text("Marked, 2 % of the photo.")


async def test_a_refusal_for_programs_becomes_a_sentence_for_people(studio: Studio) -> None:
    """No field of the API is named."""
    await studio.page.route(
        "**/v1/jobs",
        lambda route: route.fulfill(
            status=422,
            content_type="application/problem+json",
            body='{"code": "bad_input", "detail": "The field mask names an empty mask; mark the region to edit."}',
        ),
    )
    await studio.brush((300, 150), (340, 150), size=40)
    await studio.run.click()

    await studio.says("The server cannot use this photo with this mask; mark a larger part, or take a larger photo.")
