"""The arguments of the MCP server: an unsafe start is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.mcp import arguments

if TYPE_CHECKING:
    from pathlib import Path

KEY = {"ARTMANCER_MCP_KEY": "a-key-of-the-mcp-server"}


@pytest.mark.parametrize(
    ("given", "environment", "word"),
    [
        (["--http"], {}, "ARTMANCER_MCP_KEY"),
        (["--http"], {"ARTMANCER_MCP_KEY": "short"}, "16 characters"),
        (["--http", "--root", "."], KEY, "--root"),
        (["--root", "/no/such/folder"], {}, "not a folder"),
    ],
)
def test_an_unsafe_start_is_refused(
    given: list[str], environment: dict[str, str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2 and a sentence."""
    with pytest.raises(SystemExit) as ended:
        arguments.parse(given, environment)

    assert ended.value.code == 2
    assert word in capsys.readouterr().err


def test_by_default_it_reads_no_files_and_listens_on_loopback(tmp_path: Path) -> None:
    """Keys come from the environment, because arguments show in the list of processes."""
    plain = arguments.parse([], {})
    named = arguments.parse(
        ["--http", "--host", "0.0.0.0", "--allow-host", "studio.lan"],  # noqa: S104 (for the test of the names)
        {**KEY, "ARTMANCER_API_KEY": "am_x", "ARTMANCER_URL": "https://x"},
    )

    assert (plain.root, plain.host, plain.http, plain.url) == (None, "127.0.0.1", False, "http://localhost:8080")
    assert arguments.parse(["--root", str(tmp_path)], {}).root == tmp_path.resolve()
    assert (named.key, named.url) == ("am_x", "https://x")
    assert "studio.lan" in named.hosts
    assert set(plain.hosts) == {"127.0.0.1", "localhost", "[::1]"}
