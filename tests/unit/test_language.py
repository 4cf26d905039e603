"""Count phrases that make docstrings, comments and documents hard to read, and names that hide what a function does.

The limits are a backstop, not a style guide: docs/contributing.md says how to write.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {  # phrase → share of all texts of a tree
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


def python_texts(source: str) -> Iterator[str]:
    """Yield the docstrings and comments of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def marked_comments(source: str, mark: str) -> Iterator[str]:
    """Yield each run of lines that begin with a mark as one text, and each comment behind code."""
    for is_run, lines in groupby(source.splitlines(), lambda line: line.lstrip().startswith(mark)):
        if is_run:
            yield " ".join(map(str.strip, lines))
        else:
            yield from (line.split(f" {mark} ", 1)[1] for line in lines if f" {mark} " in line)


def page_comments(source: str) -> Iterator[str]:
    """Yield the comments of a script or a style sheet."""
    yield from marked_comments(source, "//")
    yield from re.findall(r"(?<!\S)/\*.*?\*/", source, re.DOTALL)  # a pattern such as `image/*` begins no comment


def configuration_comments(source: str) -> Iterator[str]:
    """Yield the comments of a file such as YAML, a Makefile or a Dockerfile."""
    yield from marked_comments(source, "#")


def paragraphs(source: str) -> Iterator[str]:
    """Yield the paragraphs, list items and table rows of a Markdown file, without its blocks of code."""
    prose = re.sub(r"^ *```.*?^ *```$", "", source, flags=re.MULTILINE | re.DOTALL)
    yield from filter(str.strip, re.split(r"\n\s*\n|\n(?=\||\s*(?:[-*]|\d+\.) )", prose))


def functions(source: str) -> Iterator[str]:
    """Yield the names of a file's functions and methods, without leading underscores."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name.strip("_")


def is_bare_participle(name: str) -> bool:
    """Return whether a name is one word such as `made` or `padded`, which does not name an action."""
    return "_" not in name and (name.endswith("ed") or name in IRREGULAR)


PYTHON = {
    "product": ("shared/**/*.py", "services/**/*.py", "deploy/**/*.py"),
    "tests": ("tests/**/*.py",),
}
CONFIGURATION = (
    "deploy/**/*.y*ml",
    "deploy/*.conf",
    "deploy/Caddyfile*",
    "deploy/Dockerfile",
    "deploy/env.example",
    "deploy/install-packages",
)
OTHERS: dict[str, tuple[Callable[[str], Iterator[str]], tuple[str, ...]]] = {
    "page": (page_comments, ("services/gateway/static/**/*.js", "services/gateway/static/**/*.css")),
    "documents": (paragraphs, ("*.md", "docs/**/*.md")),
    "configuration": (configuration_comments, ("compose.yaml", "Makefile", *CONFIGURATION)),
}
TREES = {name: (python_texts, patterns) for name, patterns in PYTHON.items()} | OTHERS


@cache
def read(tree: str) -> list[str]:
    """Return the sources of a tree."""
    _, patterns = TREES[tree]
    paths = chain.from_iterable(sorted(ROOT.glob(pattern)) for pattern in patterns)
    return [path.read_text(encoding="utf-8") for path in paths]


@cache
def find_texts(tree: str) -> list[str]:
    """Return the texts of a tree that the limits count."""
    reader, _ = TREES[tree]
    return list(chain.from_iterable(map(reader, read(tree))))


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize(("phrase", "limit"), LIMITS.items())
def test_few_sentences_hang_on_such_words(phrase: str, limit: float, tree: str) -> None:
    """Write the sentence again from the code: subject, verb, object."""
    found = find_texts(tree)
    hits = [text for text in found if re.search(phrase, text, re.IGNORECASE)]

    assert found
    assert len(hits) <= limit * len(found), f"{len(hits)} of {len(found)}, such as: {hits[:5]}"


@pytest.mark.parametrize("tree", PYTHON)
def test_functions_are_named_by_verbs(tree: str) -> None:
    """`pad` and `load`, not `padded` and `loaded`."""
    names = list(chain.from_iterable(map(functions, read(tree))))
    bare = sorted(filter(is_bare_participle, names))

    assert len(bare) <= PARTICIPLES * len(names), bare


def test_the_counter_finds_its_examples() -> None:
    """A counter that finds nothing would prove nothing."""
    source = 'def made():\n    """Return what was told."""  # nobody hears\n'

    assert list(python_texts(source)) == ["Return what was told.", "# nobody hears"]
    assert list(filter(is_bare_participle, functions(source))) == ["made"]

    script = '// what\n// follows\nopen("https://a//b", "image/*"); // who\n/** Says\n * it. */\n'
    assert list(page_comments(script)) == ["// what // follows", "who", "/** Says\n * it. */"]
    assert list(configuration_comments("a: b#c # who\n# what\n")) == ["who", "# what"]
    page = "# Who\n\nOne\ntwo.\n\n- three\n- four\n  five\n\n```sh\n# what\n```\n| six |\n| seven |\n"
    assert [text.split() for text in paragraphs(page)] == [
        ["#", "Who"],
        ["One", "two."],
        ["-", "three"],
        ["-", "four", "five"],
        ["|", "six", "|"],
        ["|", "seven", "|"],
    ]
