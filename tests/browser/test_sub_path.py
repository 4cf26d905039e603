"""The page below a sub-path of a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.sub_path import PREFIX, sub_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.browser.studio import Studio
    from tests.stack import RunningStack

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
WORKER = "navigator.serviceWorker.ready.then(({scope}) => scope)"
KEPT = """caches.keys().then(async ([name]) => {
  const kept = await (await caches.open(name)).keys();
  return [name, ...kept.map(({url}) => url)];
})"""


async def test_an_edit_below_a_sub_path(
    visit: Callable[..., Awaitable[Studio]], stack: RunningStack, tmp_path: Path
) -> None:
    """Photo, mask, run, events, result; nothing is asked for outside, and the page opens without a server."""
    async with sub_path(tmp_path, urlsplit(stack.http_url).netloc) as site:
        studio = await visit(f"{site}{PREFIX}/", worker=True)
        asked: set[str] = set()
        studio.page.on("request", lambda sent: asked.add(sent.url))
        await studio.open()
        await studio.choose_sample("cat")
        await studio.brush((100, 60), (160, 60), size=40)
        await studio.is_marked()
        await studio.run.click()
        await studio.shows_result()
        scope = await studio.page.evaluate(WORKER)
        name, *kept = await studio.page.evaluate(KEPT)
        await studio.page.context.set_offline(offline=True)
        await studio.page.reload()
        await studio.shows("cat")
        studio.problems.clear()  # the browser logs each request that it could not send
        await studio.page.context.set_offline(offline=False)

    outside = [url for url in asked if url.startswith("http") and not url.startswith(f"{site}{PREFIX}/")]
    assert outside == []
    assert (scope, name) == (f"{site}{PREFIX}/", f"artmancer.shell{PREFIX}/")
    assert all(url.startswith(f"{site}{PREFIX}/") for url in kept)
