"""Puts the tools and the pictures into an MCP server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server import MCPServer
from mcp_types import ToolAnnotations

from services.mcp.pictures import SCHEME
from services.mcp.strict_tool import strict_tool
from services.mcp.tools import Tools

if TYPE_CHECKING:
    from services.cli import AsyncClient
    from services.mcp.files import Files

_INSTRUCTIONS = """Edit photos. Upload one, select an object in it, then remove it, cut it out, or insert another one.
Pictures are named by addresses, artmancer://images/<sha256>; every edit returns a new one and leaves the old one.
Outside the mask and a rim of about 1 % of the long side not one pixel changes: compare proves it."""


def build_server(client: AsyncClient, files: Files) -> MCPServer:
    """Return the server."""
    tools = Tools(client, files)
    adds, reads = ToolAnnotations(destructive_hint=False), ToolAnnotations(read_only_hint=True)
    adding = tools.upload, tools.select, tools.remove, tools.insert, tools.balance, tools.cut_out
    server: MCPServer = MCPServer(
        "artmancer",
        title="ArtMancer",
        instructions=_INSTRUCTIONS,
        log_level="WARNING",
        tools=[*(strict_tool(tool, adds) for tool in adding), strict_tool(tools.compare, reads)],
    )
    server.resource(SCHEME + "{sha256}", name="picture", title="Picture", mime_type="image/*")(tools.read)
    return server
