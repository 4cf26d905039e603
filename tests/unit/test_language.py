"""Count the phrases that make docstrings and comments hard to read, and names that hide what a function does.

The limits are a backstop, not a style guide: docs/contributing.md says how to write.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TREES = {"product": ("shared", "services", "deploy"), "tests": ("tests",)}
LIMITS = {  # phrase → share of all docstrings and comments
    r"\b(what|who|whoever|whose)\b": 0.02,
    r"\b(tells?|told|hears?|heard|says?|said|speaks?)\b": 0.01,
    r"\b(nobody|somebody|everybody)\b": 0.01,
}
PARTICIPLES = 0.01
IRREGULAR = {
    "made",
    "told",
    "grown",
    "shown",
    "held",
    "kept",
    "seen",
    "given",
    "taken",
    "sent",
    "lost",
    "drawn",
    "known",
    "laid",
    "heard",
}


def texts(source: str) -> Iterator[str]:
    """Yield the docstrings and comments of a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def functions(source: str) -> Iterator[str]:
    """Yield the names of a file's functions and methods, without leading underscores."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name.strip("_")


def is_bare_participle(name: str) -> bool:
    """Return whether a name is one word such as `made` or `padded`, which does not name an action."""
    return "_" not in name and (name.endswith("ed") or name in IRREGULAR)


@cache
def read(tree: str) -> tuple[list[str], list[str]]:
    """Return the docstrings and comments of a tree, and the names of its functions."""
    files = chain.from_iterable(sorted((ROOT / folder).rglob("*.py")) for folder in TREES[tree])
    sources = [path.read_text(encoding="utf-8") for path in files]
    return list(chain.from_iterable(map(texts, sources))), list(chain.from_iterable(map(functions, sources)))


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize(("phrase", "limit"), LIMITS.items())
def test_few_sentences_hang_on_such_words(phrase: str, limit: float, tree: str) -> None:
    """Write the sentence again from the code: subject, verb, object."""
    found, _ = read(tree)
    hits = [text for text in found if re.search(phrase, text, re.IGNORECASE)]

    assert len(hits) <= limit * len(found), f"{len(hits)} of {len(found)}, such as: {hits[:5]}"


@pytest.mark.parametrize("tree", TREES)
def test_functions_are_named_by_verbs(tree: str) -> None:
    """`pad` and `load`, not `padded` and `loaded`."""
    _, names = read(tree)
    bare = sorted(filter(is_bare_participle, names))

    assert len(bare) <= PARTICIPLES * len(names), bare


def test_the_counter_finds_its_examples() -> None:
    """A counter that finds nothing would prove nothing."""
    source = 'def made():\n    """Return what was told."""  # nobody hears\n'

    assert list(texts(source)) == ["Return what was told.", "# nobody hears"]
    assert list(filter(is_bare_participle, functions(source))) == ["made"]
