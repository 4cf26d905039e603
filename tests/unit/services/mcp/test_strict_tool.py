"""Tools refuse arguments that they do not take."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client
from mcp_types import TextContent

from services.cli import AsyncClient
from services.mcp.files import Files
from services.mcp.server import build_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp_types import Tool

PICTURE = "artmancer://images/" + "0" * 64
pytestmark = pytest.mark.timeout(30)


@asynccontextmanager
async def connect() -> AsyncIterator[Client]:
    """Connect a client to a server in this process, without a gateway. A fixture would close it in another task."""
    async with (
        AsyncClient("http://localhost:1", retry_s=0) as sdk,
        Client(build_server(sdk, Files(None))) as client,
    ):
        yield client


async def tools_of(client: Client) -> list[Tool]:
    return list((await client.list_tools()).tools)


async def refusal(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    """Call a tool and return the text of its error."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    (text,) = result.content
    assert isinstance(text, TextContent)
    return text.text


async def test_every_tool_refuses_an_unknown_argument() -> None:
    """Or a model would believe that its wish was obeyed. The sentence names the arguments of the tool."""
    async with connect() as client:
        for tool in await tools_of(client):
            properties = tool.input_schema["properties"]
            needed = dict.fromkeys(tool.input_schema.get("required", []), PICTURE)

            text = await refusal(client, tool.name, {**needed, "colour": "blue"})

            assert text == f"Unknown arguments: colour. The tool {tool.name} takes {', '.join(properties)}."
            assert tool.input_schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        ("balance", {}, "The argument picture is missing."),
        (
            "balance",
            {"picture": PICTURE, "strength": 7},
            "The argument strength is not valid: input should be less than or equal to 1.",
        ),
        (
            "select",
            {"picture": PICTURE, "on": [["a", 2]]},
            "The argument on.0.0 is not valid: input should be a valid number, unable to parse string as a number.",
        ),
        (
            "compare",
            {"before": PICTURE, "after": PICTURE, **dict.fromkeys(["x" * 50_000, "b", "c", "d"], 1)},
            f"Unknown arguments: {'x' * 40}…, b, c. The tool compare takes before, after.",
        ),
    ],
)
async def test_a_wrong_argument_is_a_sentence(tool: str, arguments: dict[str, Any], text: str) -> None:
    """Short, without types and addresses of the library."""
    async with connect() as client:
        assert await refusal(client, tool, arguments) == text


async def test_the_arguments_keep_their_descriptions() -> None:
    """Models choose by them."""
    async with connect() as client:
        (remove,) = [tool for tool in await tools_of(client) if tool.name == "remove"]

    assert remove.input_schema["properties"].keys() == {"picture", "mask", "seed"}
    assert "artmancer://images/" in remove.input_schema["properties"]["picture"]["description"]
