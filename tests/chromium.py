"""Where Chromium is."""

from __future__ import annotations

import shutil

# The first has no windows. The others load the page of an address bar for each visit, which doubles its cost.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Return the path of the first Chromium that is installed."""
    return next(filter(None, map(shutil.which, _NAMES)), None)
