"""The first visit: a photo at once, and no request to another server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_history import saves

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.browser.studio import Studio

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
LIMIT_BYTES = 230_000
KEPT = """
async () => {
  const urls = (await Promise.all((await caches.keys()).map(async (name) => (await caches.open(name)).keys()))).flat();
  return urls.map(({ url }) => new URL(url).pathname);
}
"""
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
    studio = await visit(worker=True)
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


async def test_a_first_visit_logs_no_error(visit: Callable[..., Awaitable[Studio]]) -> None:
    """Not even a 404 for a sample that nobody has uploaded yet."""
    studio = await visit(worker=True)
    logged: list[str] = []
    studio.page.on("console", lambda message: logged.append(message.text))
    await studio.open()
    await studio.click(330, 200)
    await studio.is_marked()

    assert logged == []


async def test_the_page_opens_without_a_server(visit: Callable[..., Awaitable[Studio]]) -> None:
    """Its own files come from the browser, and the last photo with its mask; no answer of the API is kept."""
    studio = await visit(worker=True)
    await studio.open()
    await studio.brush((120, 120), (320, 120))
    await studio.is_marked()
    await studio.page.evaluate("navigator.serviceWorker.ready")
    await saves(studio, '"kind":"line"')
    await studio.page.context.set_offline(offline=True)
    await studio.page.reload()
    await studio.shows("rocket")
    await studio.is_marked()
    await studio.shoot("offline")
    kept = await studio.page.evaluate(KEPT)
    studio.problems.clear()  # the browser logs each request that it could not send
    await studio.page.context.set_offline(offline=False)

    assert all(path == "/" or path.startswith("/static/") for path in kept)
    assert not [path for path in kept if "samples" in path]
