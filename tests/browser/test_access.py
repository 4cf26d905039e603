"""The studio with a gateway that requires keys: after entering a key once, everything works as without."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import expect

from services.gateway import keys
from services.gateway.access.key_format import parse_key_id
from services.gateway.access.principal import KeyScope
from tests.stack import running_stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from playwright.async_api import Locator

    from tests.browser.studio import Studio
    from tests.stack import RunningStack

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
AXE = (files("axe_playwright_python") / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the key file."""
    return tmp_path_factory.mktemp("access") / "keys.json"


@pytest.fixture(scope="module")
def key(keys_file: Path) -> str:
    """Alice's key."""
    return keys.new(keys_file, "alice", frozenset({KeyScope.READ, KeyScope.WRITE}), None)


@pytest.fixture(scope="module")
def locked_stack(keys_file: Path, key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Provide the whole system with a gateway that requires keys."""
    assert key
    secret = keys_file.with_name("signing-key")
    keys.main(["signing-key", str(secret)])
    variables = {"GATEWAY_KEYS_FILE": str(keys_file), "GATEWAY_SIGNING_KEY_FILE": str(secret)}
    with running_stack(tmp_path_factory.mktemp("stack"), **variables) as running:
        yield running


def dialog(studio: Studio) -> Locator:
    """Return the dialog for the key."""
    return studio.page.get_by_role("dialog", name="This studio requires a key")


async def enter(studio: Studio, text: str) -> None:
    """Paste a key and press Enter."""
    await dialog(studio).get_by_label("Key", exact=True).fill(text)
    await studio.page.keyboard.press("Enter")


async def edit_as(studio: Studio, text: str) -> str:
    """Open the studio with a key and make an edit; return the one edit that its strip shows."""
    await studio.open()
    await enter(studio, text)
    await studio.task("White balance")
    await studio.run.click()
    await studio.shows_result()
    await expect(studio.film).to_have_count(1)
    return str(await studio.film.get_attribute("data-id"))


async def test_a_key_is_entered_once(
    visit: Callable[..., Awaitable[Studio]], locked_stack: RunningStack, key: str
) -> None:
    """The photo and the dialog appear at once; then an edit runs, is shown, downloaded and found again."""
    studio = await visit(locked_stack.http_url)
    urls: list[str] = []
    studio.page.on("request", lambda request: urls.append(request.url))
    await studio.open()
    await expect(dialog(studio)).to_be_visible()
    await studio.shoot("asked")
    await studio.page.evaluate(AXE)
    faults = await studio.page.evaluate("axe.run({ resultTypes: ['violations'] })")
    await enter(studio, f"{key[:-1]}_")
    await expect(dialog(studio)).to_contain_text("This key is wrong, incomplete or expired.")
    await enter(studio, key)
    await studio.choose_sample("coffee")
    await studio.click(300, 150)
    await studio.is_marked()
    await studio.run.click()
    await studio.shows_result()
    async with studio.page.expect_download() as download:
        await studio.download.click()
    await studio.open()
    await expect(studio.film).to_have_count(1)
    await studio.film.click()
    await studio.shows_result()
    await expect(dialog(studio)).to_be_hidden()
    streams = [url for url in urls if re.search("/v1/jobs/[^/]+/events", url)]

    assert [one["id"] for one in faults["violations"] if one["impact"] in {"serious", "critical"}] == []
    assert (await download.value).suggested_filename == "coffee-removed.jpg"
    assert streams
    assert all(parse_qs(urlsplit(url).query)["key"] == [parse_key_id(key)] for url in streams)
    assert all(key[16:] not in url for url in urls)


async def test_another_tab_asks_for_itself(
    visit: Callable[..., Awaitable[Studio]], locked_stack: RunningStack, key: str
) -> None:
    """The key belongs to the tab. Without a key the page can still be viewed."""
    first = await visit(locked_stack.http_url)
    await first.open()
    await enter(first, key)
    await first.click(330, 200)
    await first.is_marked()
    second = await visit(locked_stack.http_url, beside=first)
    await second.open()
    await dialog(second).get_by_role("button", name="Not now").click()
    await second.choose_sample("cat")
    await dialog(second).get_by_role("button", name="Not now").click()
    await second.click(200, 150)
    await dialog(second).get_by_role("button", name="Not now").click()
    await second.says("This studio requires a key; try again and enter it.")
    await second.click(200, 150)

    await expect(dialog(second)).to_be_visible()


DRAWN = """() => {
    const thumbnails = [...document.querySelectorAll("#candidates canvas")];
    const copy = new OffscreenCanvas(96, 96).getContext("2d", { willReadFrequently: true });
    const isDrawn = (canvas) => {
        copy.clearRect(0, 0, 96, 96);
        copy.drawImage(canvas, 0, 0);
        return copy.getImageData(48, 48, 1, 1).data[3] > 0;
    };
    return thumbnails.length > 1 && thumbnails.every(isDrawn);
}"""


async def test_a_key_that_ends_is_asked_for_again(
    visit: Callable[..., Awaitable[Studio]], locked_stack: RunningStack, keys_file: Path
) -> None:
    """The interrupted action continues with the next key."""
    scopes = frozenset({KeyScope.READ, KeyScope.WRITE})
    old = keys.new(keys_file, "bob", scopes, None)
    studio = await visit(locked_stack.http_url)
    await studio.open()
    await enter(studio, old)
    await studio.click(330, 200)
    await studio.is_marked()
    await studio.page.wait_for_function(DRAWN)  # nothing more is fetched by itself, which would bring the question
    keys.revoke(keys_file, parse_key_id(old))
    new = keys.new(keys_file, "bob", scopes, None)

    asked = await studio.page.request.get(
        f"{locked_stack.http_url}/v1/jobs", headers={"Authorization": f"Bearer {new}"}
    )
    assert asked.ok  # a key opens as soon as it is made, and the gateway now knows that the old one has ended
    await studio.run.click()
    await expect(dialog(studio)).to_be_visible()
    await enter(studio, new)
    await studio.shows_result()

    await expect(studio.promise).to_have_text("0 pixels changed outside the edited region")


async def test_another_person_sees_none_of_the_edits(
    visit: Callable[..., Awaitable[Studio]], locked_stack: RunningStack, keys_file: Path
) -> None:
    """Two people use one browser. The first finds everything again."""
    scopes = frozenset({KeyScope.READ, KeyScope.WRITE})
    carol, dave = (keys.new(keys_file, name, scopes, None) for name in ("carol", "dave"))
    first = await visit(locked_stack.http_url)
    made = await edit_as(first, carol)
    second = await visit(locked_stack.http_url, beside=first)
    others = await edit_as(second, dave)
    again = await visit(locked_stack.http_url, beside=first)
    await again.open()
    await enter(again, carol)

    await expect(again.film).to_have_count(1)
    await expect(again.film).to_have_attribute("data-id", made)
    assert others != made
