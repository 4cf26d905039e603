"""The first visit: a photo at once, and no request to another server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.browser.studio import Studio

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
LIMIT_BYTES = 150_000
NOTE_WHEN_SHOWN = """
addEventListener("DOMContentLoaded", () => {
  const facts = document.getElementById("photo-facts");
  new MutationObserver(() => (window.shownAt ??= performance.now())).observe(facts, { childList: true });
});
"""


async def test_a_photo_is_there_and_can_be_marked(visit: Callable[..., Awaitable[Studio]]) -> None:
    """The page is usable when its first sample shows. The time is only printed, because it depends on the machine."""
    studio = await visit()
    await studio.page.add_init_script(NOTE_WHEN_SHOWN)
    await studio.open()
    shown_ms = await studio.page.evaluate("window.shownAt")
    await studio.click(330, 200)
    await studio.is_marked()

    print(f"\nfirst photo shown {shown_ms:.0f} ms after the address was entered")


async def test_the_page_is_small(visit: Callable[..., Awaitable[Studio]]) -> None:
    """All transferred bytes without the photo."""
    studio = await visit()
    wire = await studio.page.context.new_cdp_session(studio.page)
    urls: dict[str, str] = {}
    sizes: dict[str, int] = {}
    wire.on("Network.responseReceived", lambda event: urls.update({event["requestId"]: event["response"]["url"]}))
    wire.on("Network.loadingFinished", lambda event: sizes.update({event["requestId"]: event["encodedDataLength"]}))
    await wire.send("Network.enable")
    await studio.open()
    await studio.page.wait_for_load_state("networkidle")
    total = sum(size for request, size in sizes.items() if not urls[request].endswith("/samples/rocket.jpg"))

    print(f"\n{len(sizes)} answers, {total} bytes without the photo")
    assert total <= LIMIT_BYTES


async def test_everything_comes_from_the_gateway(visit: Callable[..., Awaitable[Studio]]) -> None:
    """No script, font or image of another server."""
    studio = await visit()
    asked: list[str] = []
    studio.page.on("request", lambda request: asked.append(request.url))
    await studio.open()
    foreign = [url for url in asked if not url.startswith((f"{studio.url}/", "blob:", "data:"))]

    assert asked
    assert foreign == []


async def test_every_sample_can_be_opened(studio: Studio) -> None:
    """The server lists the samples, and each is shown with its name and size."""
    names = [await tile.get_attribute("aria-label") for tile in await studio.samples.all()]
    for name in names:
        assert name is not None
        await studio.choose_sample(name.removeprefix("Sample photo: "))

    assert len(names) == 4
    await studio.shows(re.compile(r"rocket . 640"))
