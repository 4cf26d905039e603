"""The German table of the studio page: each text of the code and of the page is in it, and none besides."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from services.gateway.http.static_files import FOLDER

TABLE = (FOLDER / "js/texts/de.js").read_text(encoding="utf-8")
CODE = "".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("js/**/*.js") if path.parent.name != "texts")
ATTRIBUTES = {"aria-label", "placeholder", "title", "data-tip"}
_ENTRY = re.compile(r'^  (?:"((?:[^"\\]|\\.)*)"|(\w+)):\s+"((?:[^"\\]|\\.)*)",$', re.MULTILINE)
_USED = re.compile(r'\bt\(\s*"((?:[^"\\]|\\.)*)"')
_BY_DATA = {"removal", "insertion"}


class Texts(HTMLParser):
    """Collects the texts of the page that a person reads or hears."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the attributes that are read."""
        described = dict(attrs)
        self.found |= {value for name, value in attrs if name in ATTRIBUTES and value}
        if tag == "meta" and described.get("name") == "description":
            self.found.add(described["content"] or "")

    def handle_data(self, data: str) -> None:
        """Collect a text."""
        if re.search(r"[A-Za-z]{2}", data):
            self.found.add(data.strip())


def entries() -> dict[str, str]:
    """Return the table."""
    return {quoted or bare: german for quoted, bare, german in _ENTRY.findall(TABLE)}


def texts() -> set[str]:
    """Return all English texts."""
    page = Texts()
    page.feed((FOLDER / "index.html").read_text(encoding="utf-8"))
    return page.found | set(_USED.findall(CODE))


def test_every_text_has_its_german() -> None:
    """A text without an entry would stay English in a German page."""
    assert texts() - entries().keys() == set()


def test_the_table_has_no_text_that_nobody_shows() -> None:
    """The list of one language stays short and true."""
    assert entries().keys() - texts() == set()


def test_a_translation_keeps_the_values() -> None:
    """A value that is missing would be missing in the sentence."""
    names = re.compile(r"\{\w+\}")
    wrong = {text for text, german in entries().items() if set(names.findall(text)) != set(names.findall(german))}

    assert wrong == set()
