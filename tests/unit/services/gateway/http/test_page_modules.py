"""The script modules of the studio page: at most fifteen in a folder, existing imports, and a preload of all."""

from __future__ import annotations

import posixpath
import re
from collections import Counter

import pytest

from services.gateway.http.static_files import FOLDER

MODULES = {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in FOLDER.rglob("js/**/*.js")}
PAGE = (FOLDER / "index.html").read_text(encoding="utf-8")
MOST = 15
MOST_LINES = 350
_STATIC = re.compile(r'^(?:import|export)\b[^;]*?from "([^"]+)";|^import "([^"]+)";', re.MULTILINE)
_LATER = re.compile(r'\bimport\("([^"]+)"\)[^}]')


def imports(name: str, pattern: re.Pattern[str]) -> set[str]:
    """Return the modules that one imports, as paths below `static`."""
    code = re.sub(r"/\*\*.*?\*/", "", MODULES[name], flags=re.DOTALL)
    found = ("".join(match) for match in pattern.findall(code))
    return {posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) for target in found}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_modules_that_exist(name: str) -> None:
    """A wrong path is a blank page."""
    assert imports(name, _STATIC) | imports(name, _LATER) <= MODULES.keys()


def test_the_page_loads_at_once_what_it_needs_at_once() -> None:
    """Without a preload the browser finds a module only after it has read the one that imports it."""
    needed, new = set(), {"js/main.js"}
    while new:
        needed |= new
        new = set().union(*(imports(name, _STATIC) for name in new)) - needed
    loaded = set(re.findall(r'(?:rel="modulepreload" href|type="module" src)="static/([^"]+)"', PAGE))

    assert loaded == needed


def test_rooms_and_modules_are_small() -> None:
    """As for Python: at most fifteen modules in a folder and 350 lines in a module."""
    rooms = Counter(name.rpartition("/")[0] for name in MODULES)

    assert {room: count for room, count in rooms.items() if count > MOST} == {}
    assert [name for name, text in MODULES.items() if text.count("\n") > MOST_LINES] == []
