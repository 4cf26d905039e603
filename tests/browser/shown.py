"""How Chromium shows image files: their size and pixels, read from a canvas."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from playwright.async_api import Browser, Page

_DRAW = """async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([bytes]));
  try {
    await image.decode();
  } catch {
    return null;
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(image, 0, 0);
  URL.revokeObjectURL(image.src);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let packed = "";
  for (let at = 0; at < pixels.length; at += 4096) packed += String.fromCharCode(...pixels.subarray(at, at + 4096));
  return [canvas.width, canvas.height, btoa(packed)];
}"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A shown file: (height, width, 4) uint8, R G B A, straight alpha as a canvas returns it, in sRGB."""

    rgba: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height in pixels."""
        return self.rgba.shape[1], self.rgba.shape[0]

    @property
    def on_white(self) -> NDArray[np.float64]:
        """Return R, G and B on a white ground."""
        alpha = self.rgba[..., 3:] / 255
        return np.asarray(self.rgba[..., :3] * alpha + 255 * (1 - alpha))


async def show(browser: Browser, files: Mapping[str, bytes]) -> dict[str, Shown | None]:
    """Return how the browser shows each file by its content alone; None for a file that it does not show."""
    page = await browser.new_page()
    try:
        return {name: await show_on(page, data) for name, data in files.items()}
    finally:
        await page.close()


async def show_on(page: Page, data: bytes) -> Shown | None:
    """Return how a page shows a file: for many files, because a new page costs more than a small one of them."""
    return _unpack(await page.evaluate(_DRAW, _text(data)))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unpack(drawn: tuple[int, int, str] | None) -> Shown | None:
    if drawn is None:
        return None
    width, height, packed = drawn
    return Shown(np.frombuffer(base64.b64decode(packed), np.uint8).reshape(height, width, 4))
