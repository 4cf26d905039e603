"""Files are read as the browser shows them: the same size, the same way up, the same pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared.image_codec import decode_mask, decode_photo, probe
from tests.browser import odd_files
from tests.browser.shown import show

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tests.browser.shown import Shown

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
_ROUNDING = 1.5  # levels: two decoders, and alpha
# Chromium leaves the last rows of these empty, because it waits for more; all their pixels are there.
_ENDLESS = {"jpeg without its end", "jpeg without the end's second byte"}


async def test_odd_files_are_read_as_the_browser_shows_them(browser: Browser) -> None:
    """Every file of the table: broken and misplaced metadata, orientations, modes, animations."""
    files = odd_files.files()

    shown = await show(browser, files)

    assert len(files) >= 120
    assert {name: difference for name, data in files.items() if (difference := _compare(name, data, shown[name]))} == {}


def _compare(name: str, data: bytes, shown: Shown | None) -> str:
    """Return how our reading differs from the browser's; an empty text if it does not."""
    if shown is None:
        return "the browser does not show it"
    info, photo, mask = probe(data), decode_photo(data).rgb, decode_mask(data)
    sizes = {(info.width, info.height), photo.shape[1::-1], mask.shape[::-1]}
    if sizes != {shown.size}:
        return f"sizes {sizes} instead of {shown.size}"
    drawn = shown.rgba[..., 3:] > 0 if name in _ENDLESS else np.ones((1, 1, 1), bool)
    largest = float((np.abs(photo - shown.on_white) * drawn).max())
    return "" if largest <= _ROUNDING else f"pixels differ by up to {largest:.1f} levels"
