"""`python -m services.mcp`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from services.cli import AsyncClient, WrongArguments
from services.mcp import arguments
from services.mcp.files import Files
from services.mcp.over_http import serve_http
from services.mcp.server import build_server

if TYPE_CHECKING:
    from argparse import Namespace


async def run(options: Namespace) -> None:
    """Serve the tools over HTTP, or over stdin and stdout until stdin ends."""
    async with AsyncClient(options.url, options.key) as client:
        server = build_server(client, Files(options.root))
        if options.http:
            await serve_http(server, options.access_key, options.host, options.port, options.hosts)
        else:
            await server.run_stdio_async()


def main() -> int:
    """Run the server. Return 0, 2 for an invalid address or key, or 130 after Ctrl-C."""
    try:
        asyncio.run(run(arguments.parse()))
    except KeyboardInterrupt:
        return 130
    except WrongArguments as error:
        sys.stderr.write(f"python -m services.mcp: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
