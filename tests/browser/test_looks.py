"""The main states of the page on a desktop and on a phone, light and dark: saved as screenshots and checked by axe."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.browser.studio import Studio
    from tests.stack import RunningStack

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True,
}  # fmt: skip
AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
SERIOUS = ("serious", "critical")
SCREENS = (
    (1440, 900), (1280, 800), (1241, 800), (1181, 800), (1024, 768),
    (768, 1024), (390, 844), (320, 640), (740, 360), (568, 320),
)  # fmt: skip
BEYOND = """
() => {
  const dock = document.querySelector(".dock").getBoundingClientRect();
  const buttons = [...document.querySelectorAll(".dock button, .dock a, .dock select")];
  const isOut = ({ left, right, bottom }) => left < dock.left || right > dock.right || bottom > innerHeight;
  const isCut = (button) => isOut(button.getBoundingClientRect()) || button.scrollWidth > button.clientWidth + 1;
  const out = buttons.filter((button) => button.checkVisibility() && isCut(button));
  return out.map((button) => button.id || button.dataset.zoom);
}
"""


SMALL = """
() => {
  const targets = [...document.querySelectorAll("button, select, .dock a, summary, .check, [type='range']")];
  const isSmall = ({ width, height }) => Math.min(width, height) < 44;
  const found = targets.filter((target) => target.checkVisibility() && isSmall(target.getBoundingClientRect()));
  return found.map((target) => target.id || target.dataset.tool || target.ariaLabel || target.textContent);
}
"""


class Inspector:
    """Takes a screenshot of each state and collects the violations that axe finds."""

    def __init__(self, studio: Studio) -> None:
        self.faults: list[str] = []
        self._studio = studio

    async def look(self, state: str) -> None:
        """Check the page's current state."""
        page = self._studio.page
        await self._studio.shoot(state)
        if not await page.evaluate("'axe' in window"):
            await page.evaluate(AXE)
        found = await page.evaluate("axe.run({ resultTypes: ['violations'] }).then(({ violations }) => violations)")
        self.faults += [
            f"{state}: {violation['id']} ({violation['help']}) at {node['target']}"
            for violation in found
            if violation["impact"] in SERIOUS
            for node in violation["nodes"]
        ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_no_state_shuts_anybody_out(
    visit: Callable[..., Awaitable[Studio]], stack: RunningStack, device: dict[str, Any], scheme: str
) -> None:
    """Contrast, names, roles and focus in each main state."""
    studio = await visit(color_scheme=scheme, **device)
    await studio.open()
    inspector = Inspector(studio)
    await inspector.look("first")
    await studio.run.click()
    await studio.says("Nothing is marked yet")
    await inspector.look("notice")
    await studio.button("Dismiss").click()
    for y in (80, 200, 320):  # three holes keep the engine busy for some seconds
        await studio.brush((100, y), (540, y), size=40)
    await studio.is_marked()
    await inspector.look("marked")
    await studio.run.click()
    await studio.is_working()
    async with stack.paused("a100worker"):
        await inspector.look("working")
    await studio.shows_result()
    await inspector.look("result")
    await studio.task("Insert")
    await inspector.look("insert")
    if device is PHONE:  # one photo at a time
        await studio.button("2 · Object").tap()
    await studio.choose_sample("cat", "reference-picker")
    await studio.has_object()
    await inspector.look("object")
    await studio.task("White balance")
    await inspector.look("balance")
    await studio.task("Cut out")
    await studio.press("Control+Enter")
    await expect(studio.button("Shadow")).to_be_visible()
    await studio.button("Colour").click()
    await inspector.look("cut-out")
    await studio.press("?")
    await expect(studio.page.get_by_role("dialog")).to_be_visible()
    await inspector.look("keys")

    assert inspector.faults == []


@pytest.mark.parametrize("size", [(390, 844), (320, 640)], ids=str)
async def test_a_finger_is_enough(visit: Callable[..., Awaitable[Studio]], size: tuple[int, int]) -> None:
    """On a phone: tap the object, tap Remove, without horizontal scrolling."""
    studio = await visit(**PHONE | {"viewport": {"width": size[0], "height": size[1]}})
    await studio.open()
    await studio.page.touchscreen.tap(*await studio.on_screen((330, 200)))
    await studio.is_marked()
    await studio.shoot("marked")
    small = await studio.page.evaluate(SMALL)
    await studio.run.tap()
    await studio.shows_result()
    small += await studio.page.evaluate(SMALL)
    await expect(studio.page.locator("#format")).to_be_visible()  # it comes a moment later, and needs room
    await studio.shoot("result")
    download = await studio.download.bounding_box()
    # Not innerWidth: a phone's browser makes its view as wide as the page.
    width = await studio.page.evaluate("document.documentElement.scrollWidth")

    assert download is not None
    assert download["x"] + download["width"] <= size[0]
    assert width <= size[0]
    assert small == [] or size[0] < 8 * 44  # eight tools beside each other


@pytest.mark.parametrize(("width", "height"), [(568, 320), (740, 360), (932, 430)])
async def test_a_telephone_may_be_held_sideways(
    visit: Callable[..., Awaitable[Studio]], width: int, height: int
) -> None:
    """The photo has most of the height, and the controls of the next step are visible."""
    studio = await visit(**PHONE | {"viewport": {"width": width, "height": height}})
    await studio.open()
    await studio.page.touchscreen.tap(*await studio.on_screen((330, 200)))
    await studio.is_marked()
    choices = studio.page.get_by_role("group", name="Which one is meant?").get_by_role("button")
    await expect(choices.last).to_be_visible()  # they come a moment later, and need room
    await studio.shoot("marked")
    stage, panel = await studio.canvas().bounding_box(), await studio.page.locator(".side").bounding_box()
    first, last = await choices.first.bounding_box(), await studio.button("Take away").bounding_box()
    assert stage is not None
    assert panel is not None
    assert first is not None
    assert last is not None
    assert stage["height"] >= 0.6 * height
    assert stage["x"] <= first["x"]
    assert last["x"] + last["width"] <= panel["x"]

    await expect(studio.run).to_be_in_viewport(ratio=0.99)
    await studio.run.tap()
    await studio.shows_result()
    await studio.shoot("result")
    await expect(studio.download).to_be_in_viewport(ratio=0.99)
    download = await studio.download.bounding_box()
    assert download is not None
    assert download["x"] + download["width"] <= panel["x"]


@pytest.mark.parametrize("locale", ["en", "de"])
async def test_every_button_of_a_result_is_in_view(visit: Callable[..., Awaitable[Studio]], locale: str) -> None:
    """On laptops, tablets and phones, with all of its text, in the language with the longer words too."""
    studio = await visit(locale=locale)
    await studio.open()
    await studio.page.locator("#tasks label:has([value='white-balance'])").click()
    await studio.run.click()
    await expect(studio.page.locator("#split")).to_be_visible()
    await expect(studio.page.locator("#format")).to_have_js_property("hidden", value=False)
    hidden = []
    for width, height in SCREENS:
        await studio.page.set_viewport_size({"width": width, "height": height})
        hidden += [f"{width}x{height}: {name}" for name in await studio.page.evaluate(BEYOND)]

    assert hidden == []


async def test_the_theme_can_be_chosen(studio: Studio) -> None:
    """The button switches to dark, and the choice survives a reload."""
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await studio.page.evaluate(ground)
    await studio.button("Switch between light and dark").click()
    dark = await studio.page.evaluate(ground)
    await studio.page.reload()

    assert dark != light
    assert await studio.page.evaluate(ground) == dark
