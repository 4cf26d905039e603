"""A real browser with the real system. An error on the page's console fails the test."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from tests.browser.studio import Studio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    from playwright.async_api import Browser

    from tests.stack import RunningStack

ARTIFACTS = Path(__file__).parents[2] / "test-artifacts"
AT_LEISURE = "localStorage.getItem('artmancer.quick') ?? localStorage.setItem('artmancer.quick', 'off')"
WITHOUT_WORKER = "delete Navigator.prototype.serviceWorker"  # as in some private windows
TIMEOUT_MS = 180_000  # on a loaded machine; longer than the page waits for an answer
SWITCHES = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

FAILED = pytest.StashKey[bool]()

expect.set_options(timeout=TIMEOUT_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test of this folder time for several long waits."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(600))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether the test failed, before its browser closes."""
    report = yield
    if report.when != "teardown":
        item.stash[FAILED] = report.failed
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """Start Chromium once."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        yield started
        await started.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(
    browser: Browser, stack: RunningStack, request: pytest.FixtureRequest
) -> AsyncIterator[Callable[..., Awaitable[Studio]]]:
    """Open the studio as a new visitor; the options are those of a browser context.

    `beside` opens another tab of the same browser instead. `quick` leaves the removal at the release of the brush to
    the page; else it is off. `worker` lets the page start its service worker, which fetches all its files once more.
    """
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    studios: list[Studio] = []

    async with AsyncExitStack() as contexts:

        async def visit(
            url: str = stack.http_url,
            *,
            beside: Studio | None = None,
            quick: bool = False,
            worker: bool = False,
            **options: Any,
        ) -> Studio:
            if beside is not None:
                context = beside.page.context
            else:
                context = await browser.new_context(
                    **{
                        "viewport": {"width": 1280, "height": 800},
                        "ignore_https_errors": True,
                        **options,
                    }
                )
                contexts.push_async_callback(context.close)
                if not quick:
                    await context.add_init_script(AT_LEISURE)
                if not worker:
                    await context.add_init_script(WITHOUT_WORKER)
                context.set_default_timeout(TIMEOUT_MS)
            studios.append(Studio(await context.new_page(), url, ARTIFACTS / f"{name}-{len(studios) + 1}"))
            return studios[-1]

        yield visit
        if request.node.stash[FAILED]:
            for studio in studios:
                await studio.shoot("end")
    assert [problem for studio in studios for problem in studio.problems] == []


@pytest_asyncio.fixture(loop_scope="session")
async def studio(visit: Callable[..., Awaitable[Studio]]) -> Studio:
    """Return the studio on a desktop, its first photo on the stage."""
    opened = await visit()
    await opened.open()
    return opened
