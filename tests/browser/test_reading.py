"""Files are read as the browser shows them: the same size, the same way up, the same pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from shared.image_codec import decode_mask, decode_photo, encode_png, probe
from tests.browser import coloured_files, odd_files
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


async def test_results_have_the_colours_of_their_uploads(browser: Browser) -> None:
    """Every mode, format and kind of profile, read back from the canvas: an edit of nothing looks the same."""
    files = coloured_files.files()
    results = {name: _decode_and_encode(data) for name, data in files.items()}

    before, after = await show(browser, files), await show(browser, results)

    assert len(files) >= 100
    assert {name: change for name in files if (change := _change(name, before[name], after[name]))} == {}


def _decode_and_encode(data: bytes) -> bytes:
    photo = decode_photo(data, with_alpha=True)
    return encode_png(photo.rgb if photo.rgba is None else photo.rgba, photo.colour)


def _change(name: str, before: Shown | None, after: Shown | None) -> str:
    """Return how two shown files differ by more than a conversion allows; an empty text if they do not."""
    if before is None or after is None or before.size != after.size:
        return "not shown, or of another size"
    kind, mode, *statement = name.split()
    # A grey profile is converted, two decoders round, and a WebP is multiplied by its opacity before it is drawn.
    if (kind, mode) == ("webp", "RGBA"):
        largest, allowed = float(np.abs(before.on_white - after.on_white).max()), 2.0
    else:
        largest = float(np.abs(before.rgba.astype(int) - after.rgba).max())
        allowed = 1.0 if kind in {"jpeg", "avif"} or statement == ["grey"] else 0.0
    return "" if largest <= allowed else f"{largest:.1f} levels"


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
