"""The arguments of the MCP server."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.transport import DEFAULT_URL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_PORT = 8765
_SHORTEST_KEY = 16
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> argparse.Namespace:
    """Return the parsed arguments. Exits with 2 and a sentence if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m services.mcp",
        description="Serve ArtMancer's edits as MCP tools: over stdin and stdout, or with --http over HTTP.",
    )
    parser.add_argument("--url", default=environment.get("ARTMANCER_URL", DEFAULT_URL), help="or ARTMANCER_URL")
    parser.add_argument("--root", type=_folder, help="the folder with the files that tools may read; default: none")
    parser.add_argument("--http", action="store_true", help="serve over HTTP; the clients send ARTMANCER_MCP_KEY")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="(%(default)s)")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name by which other machines reach it"
    )
    options = parser.parse_args(arguments)
    options.key = environment.get("ARTMANCER_API_KEY")  # an argument would show in the list of processes
    options.access_key = environment.get("ARTMANCER_MCP_KEY", "")
    if options.http and len(options.access_key) < _SHORTEST_KEY:
        parser.error(f"--http needs a key of at least {_SHORTEST_KEY} characters in ARTMANCER_MCP_KEY")
    if options.http and options.root:
        parser.error("--root is for stdin and stdout only: clients over HTTP never read files of this machine")
    options.hosts = tuple(dict.fromkeys((*_LOOPBACK, options.host, *options.allow_host)))
    return options


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    return path.resolve()
