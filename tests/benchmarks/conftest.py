"""The table that all benchmarks write to, also where pytest captures output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.measuring.meter import Table

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    """Lines on the terminal, under one heading."""
    terminal: TerminalReporter | None = request.config.pluginmanager.get_plugin("terminalreporter")
    assert terminal is not None

    def write(line: str) -> None:
        terminal.ensure_newline()
        terminal.write_line(line)

    return Table(write)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """No dots between the lines of the table."""
    ours = Path(report.nodeid).parts[:2] == ("tests", "benchmarks")
    return ("passed", "", "PASSED") if ours and report.when == "call" and report.passed else None
