"""Logs: one line for each event, that a person can read and nobody can forge."""

from __future__ import annotations

import io
import logging
import re
from typing import TYPE_CHECKING

import pytest

from shared import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the process logs from now on; afterwards logging is as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure("INFO", stream)
    yield stream
    root.handlers[:], root.level = before[0], before[1]


def test_an_event_is_one_line_with_its_fields(log: io.StringIO) -> None:
    """When, how bad, what, and the facts."""
    logging.getLogger("kitchen").info("cake.baked", extra={"job_id": "j1", "minutes": 40})

    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} INFO    cake\.baked job_id=j1 minutes=40\n", log.getvalue())


@pytest.mark.parametrize("text", ["two words", "", "a\nERROR forged", "a\rb", "\x1b[2J", "tab\tbed"])
def test_a_field_cannot_break_the_line(log: io.StringIO, text: str) -> None:
    """What a user sent may be in a field; it stays inside its quotes."""
    logging.getLogger("kitchen").warning("cake.burnt", extra={"reason": text})

    assert log.getvalue().endswith(f"cake.burnt reason={text!r}\n")
    assert log.getvalue().rstrip("\n").isprintable()


def fail() -> None:
    try:
        int("the user's secret")
    except ValueError:
        logging.getLogger("kitchen").exception("oven.exploded")


def test_an_exception_is_named_and_no_more(log: io.StringIO) -> None:
    """Its text may hold what a user sent, its traceback paths of the machine."""
    fail()

    assert log.getvalue().endswith("ERROR   oven.exploded error=ValueError\n")


def test_at_debug_the_traceback_follows(log: io.StringIO) -> None:
    """For whoever has asked for it."""
    logging.getLogger().setLevel("DEBUG")

    fail()

    assert "Traceback (most recent call last)" in log.getvalue()


def test_below_the_level_nothing_is_written(log: io.StringIO) -> None:
    """INFO says what happens, DEBUG why."""
    logging.getLogger("kitchen").debug("oven.lit")

    assert log.getvalue() == ""
