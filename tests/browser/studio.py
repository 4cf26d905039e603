"""The studio page as an object: a user's actions and the visible state."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING

from PIL import Image
from playwright.async_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import ConsoleMessage, Locator, Page

_COUNT_PAINTS = """
() => new Promise((resolve) => {
  const { clearRect } = CanvasRenderingContext2D.prototype;
  const began = performance.now();
  let paints = 0;
  let frames = 0;
  CanvasRenderingContext2D.prototype.clearRect = function (...area) { paints++; clearRect.apply(this, area); };
  const next = () => {
    if (++frames < 30) return requestAnimationFrame(next);
    CanvasRenderingContext2D.prototype.clearRect = clearRect;
    resolve([paints, (performance.now() - began) / 1000]);
  };
  requestAnimationFrame(next);
})
"""
_SIZE = re.compile(r"(\d+) \D (\d+)")
Place = tuple[float, float]
SAMPLES = {"astronaut": (512, 512), "cat": (451, 300), "coffee": (600, 400), "rocket": (640, 427)}
_EDIT_MS = 300_000  # the engine yields to whatever else the machine does
_MARGIN_PX, _MARGIN_PHONE_PX, _PHONE_PX = 24, 10, 600  # as static/js/stage/view.js leaves them around a photo


class Studio:
    """A browser tab with the studio."""

    def __init__(self, page: Page, url: str, artifacts: Path) -> None:
        """`artifacts` is the prefix of its screenshots' names."""
        self.page = page
        self.url = url
        self.problems: list[str] = []
        self._artifacts = artifacts
        page.on("console", self._hear)
        page.on("filechooser", lambda _: None)  # else a key may open one before it is caught
        page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        self.facts = page.locator("#photo-facts")
        self.mask_facts = page.locator("#mask-facts")
        self.hint = page.locator("#hint")
        self.zoom = page.locator("#zoom-text")
        self.samples = page.locator("#photo-picker [data-name]")
        self.notice = page.locator("#notice")
        self.progress = page.locator("#progress")
        self.track = page.get_by_role("progressbar")
        self.run = page.locator("#run")
        self.cancel = page.get_by_role("button", name="Cancel", exact=True)
        self.divider = page.get_by_role("slider", name="Before and after")
        self.promise = page.locator("#promise")
        self.download = page.get_by_role("link", name="Download")
        self.format = page.get_by_label("Format of the download")
        self.film = page.locator("#strip [data-id]")
        self.originals = page.locator("#strip [data-original]")

    def _hear(self, message: ConsoleMessage) -> None:
        # The page puts the answers of the API into words itself.
        answer_of_the_api = message.text.startswith("Failed to load resource") and "/v1/" in message.location["url"]
        # A test may cut the connection while the worker starts, and Chromium fetches none from an untrusted authority.
        is_not_fetched = message.text.endswith("occurred when fetching the script.")
        of_the_worker = is_not_fetched or "/service-worker.js" in message.location["url"]
        # Only a test takes the browser offline, and Chromium logs each file that it was fetching in that moment.
        of_the_cut = message.text.endswith("net::ERR_INTERNET_DISCONNECTED")
        if message.type in {"error", "warning"} and not (answer_of_the_api or of_the_worker or of_the_cut):
            self.problems.append(f"{message.type}: {message.text} ({message.location['url']})")

    async def shoot(self, name: str) -> None:
        """Save a screenshot to the artifacts."""
        self._artifacts.parent.mkdir(exist_ok=True)
        await self.page.screenshot(path=f"{self._artifacts}-{name}.png")

    # --- opening ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Load the page and wait until it shows a photo."""
        await self.page.goto(self.url)
        await self.shows(_SIZE)

    async def shows(self, facts: str | re.Pattern[str]) -> None:
        """Wait until the stage shows the photo with these facts (name and size)."""
        await expect(self.facts).to_contain_text(facts)

    async def choose_sample(self, name: str, picker: str = "photo-picker") -> None:
        """Open a sample."""
        await self.sample(name, picker).click()
        if picker == "photo-picker":
            await self.shows(name)

    def sample(self, name: str, picker: str = "photo-picker") -> Locator:
        """Return the tile of a sample."""
        return self.page.locator(f"#{picker}").get_by_role("button", name=name)

    async def has_object(self) -> None:
        """Wait until the object photo is shown and its object is found."""
        await expect(self.page.locator("#reference-empty")).to_be_hidden()
        await expect(self.hint).not_to_contain_text("Finding")
        await self.is_marked()

    async def choose_file(self, path: Path) -> None:
        """Open a file with the button and the file dialog."""
        async with self.page.expect_file_chooser() as dialog:
            await self.page.get_by_role("button", name="Open photo").click()
        await (await dialog.value).set_files(path)

    async def tab_to(self, target: Locator) -> None:
        """Move the focus there with the Tab key."""
        for _ in range(60):
            if await target.evaluate("element => element === document.activeElement"):
                return
            await self.page.keyboard.press("Tab")
        raise AssertionError(f"The Tab key does not come to {target}.")

    async def press(self, *keys: str) -> None:
        """Press keys one after the other."""
        for key in keys:
            await self.page.keyboard.press(key)

    async def task(self, name: str) -> None:
        """Choose the task Remove, Insert or White balance."""
        await self.page.locator("#tasks").get_by_text(name, exact=True).click()

    def button(self, name: str) -> Locator:
        """Return a button by its name."""
        return self.page.get_by_role("button", name=name, exact=True)

    # --- marking ---------------------------------------------------------------------------------------------------

    def canvas(self, pane: str = "photo") -> Locator:
        """Return the canvas of a pane: `photo` or `reference`."""
        return self.page.locator(f"#{pane}-pane canvas")

    async def on_screen(self, place: Place, pane: str = "photo", size: tuple[int, int] | None = None) -> Place:
        """Return the position in the window of a pixel of a photo, while the whole photo is shown."""
        if size is None:
            width, height = re.findall(_SIZE, await self.facts.inner_text())[0]
            size = int(width), int(height)
        box = await self.canvas(pane).bounding_box()
        assert box is not None
        margin = 2 * (_MARGIN_PHONE_PX if box["width"] < _PHONE_PX else _MARGIN_PX)
        scale = min((box["width"] - margin) / size[0], (box["height"] - margin) / size[1])
        left = box["x"] + (box["width"] - size[0] * scale) / 2
        top = box["y"] + (box["height"] - size[1] * scale) / 2
        return left + place[0] * scale, top + place[1] * scale

    async def click(self, *place: float, pane: str = "photo", size: tuple[int, int] | None = None) -> None:
        """Click a pixel of a photo."""
        await self.page.mouse.click(*await self.on_screen((place[0], place[1]), pane, size))

    async def drag(self, *places: Place, pane: str = "photo", size: tuple[int, int] | None = None) -> None:
        """Press at the first pixel of a photo, move along the others, and let go at the last."""
        on_screen = [await self.on_screen(place, pane, size) for place in places]
        await self.page.mouse.move(*on_screen[0])
        await self.page.mouse.down()
        for place in on_screen[1:]:
            await self.page.mouse.move(*place, steps=4)
        await self.page.mouse.up()

    async def brush(self, *places: Place, size: int = 120) -> None:
        """Paint over a photo with a brush of that size on the screen."""
        await self.page.keyboard.press("b")
        await self.page.get_by_label("Size").fill(str(size))
        await self.drag(*places)

    async def box(self, *corners: Place, pane: str = "photo", size: tuple[int, int] | None = None) -> None:
        """Draw a box."""
        await self.page.keyboard.press("r")
        await self.drag(*corners, pane=pane, size=size)

    async def is_marked(self, share: str | re.Pattern[str] = "of the photo") -> None:
        """Wait until something is marked."""
        await expect(self.mask_facts).to_contain_text(share)

    async def count_paints(self) -> tuple[int, float]:
        """Return how often the stage is painted during 30 frames of the screen, and how many seconds they take."""
        paints, seconds = await self.page.evaluate(_COUNT_PAINTS)
        return paints, seconds

    async def read_stage(self) -> str:
        """Return the stage's pixels after all changes are painted."""
        painted = """canvas => new Promise((resolve) =>
            requestAnimationFrame(() => requestAnimationFrame(() => resolve(canvas.toDataURL()))))"""
        return str(await self.canvas().evaluate(painted))

    async def colour(self, place: Place) -> tuple[int, int, int]:
        """Return the stage's colour at a pixel of the photo, while the whole photo is shown."""
        edge = await self.canvas().bounding_box()
        assert edge is not None
        left, top = await self.on_screen(place)
        with Image.open(io.BytesIO(base64.b64decode((await self.read_stage()).partition(",")[2]))) as stage:
            x, y = round(left - edge["x"]), round(top - edge["y"])
            red, green, blue = stage.convert("RGB").crop((x, y, x + 1, y + 1)).tobytes()
        return red, green, blue

    async def share(self) -> int:
        """Return the marked area in percent; less than 1 is 0."""
        await self.is_marked()
        return int(re.sub(r"<1|\D", "", await self.mask_facts.inner_text()) or 0)

    # --- results --------------------------------------------------------------------------------------------------

    async def shows_result(self) -> None:
        """Wait for the result and its receipt."""
        await expect(self.download).to_be_visible(timeout=_EDIT_MS)
        await expect(self.divider).to_be_visible()  # checked last: a preview has one, too
        await expect(self.page.locator("#receipt")).to_have_js_property("hidden", value=False)  # a sheet may cover it

    async def is_working(self) -> None:
        """Wait until a worker runs the edit on the stage."""
        await expect(self.progress).to_be_visible()
        await expect(self.progress).to_have_attribute("data-status", "running")

    async def says(self, sentence: str) -> None:
        """Wait until the page shows this failure."""
        await expect(self.notice).to_contain_text(sentence)
