"""Caddy with the site of docs/deploy.md that publishes a gateway below a sub-path."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from services.stack.process import ROOT
from tests.caddy import caddy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PREFIX = "/art"
_GLOBAL = "{\n\tadmin off\n\tpersist_config off\n\tstorage file_system `{$CADDY_DATA}`\n\t{$CADDY_OPTIONS}\n}\n"


@asynccontextmanager
async def sub_path(folder: Path, gateway: str) -> AsyncIterator[str]:
    """Run it before the gateway with this address; yield the address of the site, without the sub-path."""
    document = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    (site,) = re.findall(r"```caddyfile\n(.*?)```", document, re.DOTALL)
    site = site.replace("example.org", "{$SITE_ADDRESS}").replace("127.0.0.1:8080", gateway)
    (folder / "Caddyfile").write_text(_GLOBAL + site, encoding="utf-8")
    async with caddy(str(folder / "Caddyfile"), folder) as address:
        yield address
