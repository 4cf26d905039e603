"""The page behind Caddy: the flows that HTTPS and HTTP/2 could break, and one that only HTTP/2 allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.pictures import enlarge_sample, jpeg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.browser.studio import Studio
    from tests.stack import RunningStack

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
STREAMS = 20
ONCE = ("content-security-policy", "x-content-type-options", "referrer-policy", "permissions-policy", "cache-control")
SUBMIT = """
async (count) => {
  const photo = await (await fetch("/static/samples/cat.jpg")).blob();
  const { sha256: image } = await (await fetch("/v1/images", { method: "POST", body: photo })).json();
  const order = { task: "white-balance", image, strength: 1 };
  const headers = { "Content-Type": "application/json" };
  const submit = (key) => fetch("/v1/jobs", {
    method: "POST", headers: { ...headers, "Idempotency-Key": key }, body: JSON.stringify(order),
  });
  const answers = await Promise.all(Array.from({ length: count }, () => submit(crypto.randomUUID())));
  return Promise.all(answers.map(async (answer) => (await answer.json()).id));
}
"""
LISTEN = """
(ids) => {
  window.ended = 0;
  const sources = ids.map((id) => new EventSource(`/v1/jobs/${id}/events`));
  const event = (source, name) => new Promise((resolve) => source.addEventListener(name, resolve));
  window.allQueued = Promise.all(sources.map((source) => event(source, "queued")));
  window.allDone = Promise.all(
    sources.map((source) => event(source, "done").then(() => { ended++; source.close(); })),
  );
}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def secure(visit: Callable[..., Awaitable[Studio]], stack: RunningStack) -> Studio:
    """Return the studio over HTTPS."""
    studio = await visit(stack.https_url, worker=True)
    await studio.open()
    return studio


@pytest.fixture
def large_photo(tmp_path: Path) -> Path:
    """Return a photo large enough for an edit of some seconds."""
    (tmp_path / "pad.jpg").write_bytes(jpeg(enlarge_sample((1200, 800))))
    return tmp_path / "pad.jpg"


async def test_the_page_comes_over_http_2(secure: Studio) -> None:
    """The page and all its files."""
    protocols = await secure.page.evaluate(
        "performance.getEntries().filter((e) => e.nextHopProtocol !== undefined).map((e) => e.nextHopProtocol)"
    )

    assert set(protocols) == {"h2"}


async def test_every_security_header_comes_once(secure: Studio) -> None:
    """The gateway sets the headers; Caddy adds none."""
    answer = await secure.page.request.get(secure.url)
    names = [header["name"].lower() for header in answer.headers_array]

    assert [names.count(name) for name in ONCE] == [1] * len(ONCE)


async def test_an_edit_over_https(secure: Studio) -> None:
    """Upload, mask, run, stream, result, receipt."""
    await secure.choose_sample("coffee")
    await secure.click(300, 150)
    await secure.is_marked()
    await secure.run.click()
    await secure.shows_result()

    await expect(secure.promise).to_have_text("0 pixels changed outside the edited region")


async def test_a_gateway_that_dies_is_survived_behind_caddy(
    secure: Studio, large_photo: Path, stack: RunningStack
) -> None:
    """Requests wait for the next gateway, and the edit continues to its result."""
    await secure.choose_file(large_photo)
    await secure.shows("pad")
    for y in (250, 400, 550):
        await secure.brush((250, y), (950, y))
    await secure.run.click()
    await secure.is_working()
    stack.kill("gateway")

    await secure.shows_result()
    await expect(secure.notice).to_be_empty()


async def test_one_page_follows_twenty_jobs_at_once(secure: Studio, stack: RunningStack) -> None:
    """All twenty streams are open while the worker is idle; with HTTP/1 only six would be."""
    async with stack.paused("a100worker"):
        ids = await secure.page.evaluate(SUBMIT, STREAMS)
        await secure.page.evaluate(LISTEN, ids)
        queued, ended = await secure.page.evaluate("allQueued.then((all) => [all.length, ended])")
    done = await secure.page.evaluate("allDone.then((all) => all.length)")

    assert (queued, ended, done) == (STREAMS, 0, STREAMS)
