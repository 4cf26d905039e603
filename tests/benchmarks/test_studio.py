"""The studio with a photo of 12 megapixels in Chromium: a frame of brushing, a stroke that removes, and memory.

Frames are measured in processor time of the page's main thread, because on a busy machine they measure the machine. The
time of a stroke, from its release until its result is shown, needs a quiet one.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from statistics import median
from typing import TYPE_CHECKING

import psutil
import pytest
from playwright.async_api import async_playwright, expect

from shared.image_codec import encode_jpeg
from tests.benchmarks.measuring.meter import resident_mb
from tests.benchmarks.test_edit import SIZES
from tests.benchmarks.test_patches import grainy_photo
from tests.browser.conftest import SWITCHES
from tests.browser.studio import Studio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import CDPSession

    from tests.benchmarks.measuring.meter import Table
    from tests.stack import RunningStack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
HEIGHT, WIDTH = SIZES[12]
FRAME_TARGET_MS = 18.0  # 55 frames a second
MOVES = 120
SPOTS, SPOT_TARGET_MS = 9, 800.0
STROKES, MEASURED_FROM = 100, 5
COUNT_PAINTS = """() => {
    window.paints = 0;
    const stage = document.querySelector("#photo-pane canvas");
    const clear = CanvasRenderingContext2D.prototype.clearRect;
    CanvasRenderingContext2D.prototype.clearRect = function (...edges) {
        if (this.canvas === stage) window.paints += 1;
        return clear.apply(this, edges);
    };
}"""

TIME_STROKES = """() => {
    window.waits = [];
    let released = 0, version = 0;
    addEventListener("pointerup", () => { released = performance.now(); }, true);
    new MutationObserver(() => {
        const shown = Number(/version (\\d+)/.exec(document.querySelector("#photo-facts").textContent)?.[1] ?? 0);
        if (shown > version) window.waits.push(performance.now() - released);
        version = shown;
    }).observe(document.querySelector("#photo-facts"), {childList: true, subtree: true, characterData: true});
}"""


class Meter:
    """The studio in Chromium, with the tools that measure it."""

    def __init__(self, studio: Studio, tools: CDPSession) -> None:
        self.studio = studio
        self.tools = tools

    async def cpu_ms(self) -> float:
        """Return the processor time of the page's main thread, but for that of these tools."""
        found = (await self.tools.send("Performance.getMetrics"))["metrics"]
        spent = {entry["name"]: entry["value"] for entry in found}
        return 1000 * float(spent["TaskDuration"] - spent["DevToolsCommandDuration"])

    async def heap_mb(self) -> float:
        """Return the memory of the page's scripts after a collection."""
        await self.tools.send("HeapProfiler.collectGarbage")
        return float((await self.tools.send("Runtime.getHeapUsage"))["usedSize"]) / 1e6


@asynccontextmanager
async def open_photo(chromium: str, url: str, folder: Path) -> AsyncIterator[Meter]:
    """Open a photo of 12 megapixels in the studio."""
    photo = folder / "photo.jpg"
    photo.write_bytes(encode_jpeg(grainy_photo(12), 92))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        studio = Studio(page, url, folder / "shot")
        await studio.open()
        await studio.choose_file(photo)
        await studio.shows(str(WIDTH))
        tools = await page.context.new_cdp_session(page)
        await tools.send("Performance.enable", {"timeDomain": "threadTicks"})
        yield Meter(studio, tools)
        await browser.close()


async def test_brushing(chromium: str, stack: RunningStack, tmp_path: Path, table: Table) -> None:
    """A long line without a release; each move of the pointer is painted."""
    async with open_photo(chromium, stack.http_url, tmp_path) as opened:
        studio, page = opened.studio, opened.studio.page
        line = [await studio.on_screen((400 + 25 * n, 400 + 20 * (n % 60)), size=(WIDTH, HEIGHT)) for n in range(MOVES)]
        await page.keyboard.press("b")
        await page.mouse.move(*line[0])
        await page.mouse.down()
        await page.evaluate(COUNT_PAINTS)
        before_ms = await opened.cpu_ms()
        for place in line:
            await page.mouse.move(*place)
        spent_ms, paints = await opened.cpu_ms() - before_ms, await page.evaluate("window.paints")
        await page.mouse.up()

    table.row("main thread, a frame of brushing, 12 MP", spent_ms / paints, "ms", target=FRAME_TARGET_MS)


async def test_a_stroke(chromium: str, stack: RunningStack, tmp_path: Path, table: Table) -> None:
    """Strokes that cover 100 pixels of the photo; each one is removed at its release. The first one warms up."""
    async with open_photo(chromium, stack.http_url, tmp_path) as opened:
        studio, page = opened.studio, opened.studio.page
        await page.get_by_label("Remove at once").check()
        await page.evaluate(TIME_STROKES)
        for number in range(SPOTS):
            x, y = 500 + 600 * (number % 5), 500 + 700 * (number // 5)
            await studio.brush((x, y), (x + 60, y), size=12)
            await expect(studio.facts).to_contain_text(f"version {number + 1}")
        _, *waits = await page.evaluate("window.waits")

    assert len(waits) == SPOTS - 1
    table.row("release of a stroke to its result, 12 MP, median", median(waits), "ms", target=SPOT_TARGET_MS)
    table.row("release of a stroke to its result, 12 MP, longest", max(waits), "ms")


async def test_memory_over_strokes(chromium: str, stack: RunningStack, tmp_path: Path, table: Table) -> None:
    """Each stroke is removed at its release, and is a version of the photo."""
    heaps, sizes = list[float](), list[float]()
    me = psutil.Process()
    async with open_photo(chromium, stack.http_url, tmp_path) as opened:
        studio = opened.studio
        await studio.page.get_by_label("Remove at once").check()
        for number in range(STROKES):
            x, y = 300 + 500 * (number % 7), 300 + 500 * (number // 7 % 5)
            await studio.brush((x, y), (x + 20, y), size=24)
            await expect(studio.facts).to_contain_text(f"version {number + 1}")
            heaps.append(await opened.heap_mb())
            pages = [child for child in me.children(recursive=True) if "--type=renderer" in child.cmdline()]
            sizes.append(resident_mb(pages))

    table.row("heap after the last stroke, 12 MP", heaps[-1], "MB", baseline=heaps[MEASURED_FROM])
    table.row("renderer after the last stroke, 12 MP", sizes[-1], "MB", baseline=sizes[MEASURED_FROM])
