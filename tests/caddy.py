"""Caddy with one of our Caddyfiles, over plain HTTP on a port of its own."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from services.stack.process import ROOT, Process, ProcessGroup
from tests.gateway import HOST
from tests.ports import free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CADDY = Path(sys.executable).parent / "caddy"


@asynccontextmanager
async def caddy(
    name: str, folder: Path, on_line: Callable[[str], None] = lambda _: None, **variables: str
) -> AsyncIterator[str]:
    """Run it with deploy/<name> and these variables; yield its address once it listens."""
    port = free_port()
    address = f"http://{HOST}:{port}"
    environment = {
        "SITE_ADDRESS": address,
        "CADDY_DATA": str(folder / "Bücher und 图片" / "caddy"),  # any path will do
        "CADDY_OPTIONS": f"default_bind {HOST}\nauto_https off",
        "XDG_DATA_HOME": str(folder),
        **variables,
    }

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    async with ProcessGroup() as group:
        argv = (str(CADDY), "run", "--config", str(ROOT / "deploy" / name))
        program = Process("caddy", argv, group, env=environment, on_line=on_line)
        await program.start()
        try:
            await wait_until(listens, "Caddy listens")
            yield address
        finally:
            program.terminate()
            await program.wait()
