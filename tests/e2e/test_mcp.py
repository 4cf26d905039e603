"""The MCP server as a process, with the official SDK's client, over stdin and stdout and over HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from services.cli import AsyncClient
from tests.gateway import ROOT, SAMPLES
from tests.ports import free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.stack import RunningStack

KEY = "a-key-of-the-mcp-server"
SIZE, BOX = (640, 427), (300, 150, 360, 260)
TOOLS = {"upload", "select", "remove", "insert", "balance", "cut_out", "compare"}
pytestmark = pytest.mark.timeout(300)


def over_stdio(url: str, *arguments: str) -> Client:
    """Return a client that starts the server itself."""
    command = ["-m", "services.mcp", *arguments]
    return Client(
        StdioServerParameters(command=sys.executable, args=command, env={"ARTMANCER_URL": url}, cwd=str(ROOT))
    )


@asynccontextmanager
async def http_server(url: str) -> AsyncIterator[str]:
    """Run the server over HTTP; yield its address when it listens."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.mcp", "--http", "--port", str(port),
        cwd=ROOT, env=os.environ | {"ARTMANCER_URL": url, "ARTMANCER_MCP_KEY": KEY},
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}/mcp"

    async def is_listening() -> bool:
        async with httpx.AsyncClient() as client:
            try:
                return (await client.post(address)).status_code == 401
            except httpx.TransportError:
                return False

    try:
        await wait_until(is_listening, "the MCP server listens")
        yield address
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def over_http(address: str) -> AsyncIterator[Client]:
    """Connect a client that sends the key."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=120) as http,
        Client(streamable_http_client(address, http_client=http)) as client,
    ):
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool and return its structured answer, which must not be an error."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    answer: dict[str, Any] = result.structured_content
    return answer


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    """Call a tool and return the text of its error."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.content
    return str(getattr(result.content[0], "text", ""))


async def edit_photo(client: Client, photo: str) -> None:
    """Select, remove, insert, cut out, balance and compare, from an uploaded photo; read the result as a resource."""
    steps: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        assert total == 1.0
        assert message
        steps.append(progress)

    selection = await call(client, "select", picture=photo, on=[[330, 200]])
    result = await client.call_tool("remove", {"picture": photo, "mask": selection["mask"]}, progress_callback=note)
    removed = result.structured_content
    assert removed["pixels_changed_outside_mask"] == 0
    assert {block.type for block in result.content} == {"text", "resource_link", "image"}
    assert steps

    difference = await call(client, "compare", before=photo, after=removed["picture"])
    same = await call(client, "compare", before=photo, after=photo)
    left, top, right, bottom = difference["box"]
    assert 0 < difference["share"] < 0.5
    assert (left < right, top < bottom) == (True, True)
    assert (same["changed_pixels"], same["box"]) == (0, None)

    thing = await call(client, "cut_out", picture=photo, mask=selection["mask"])
    inserted = await call(
        client, "insert", picture=removed["picture"], mask=selection["mask"], reference=thing["picture"]
    )
    balanced = await call(client, "balance", picture=inserted["picture"], strength=0.5)
    (content,) = (await client.read_resource(balanced["picture"])).contents
    assert Image.open(io.BytesIO(base64.b64decode(content.blob))).size == SIZE  # type: ignore[union-attr]


async def test_a_session_over_stdin_and_stdout(stack_url: str, tmp_path: Path) -> None:
    """The server reads pictures below its folder, and nothing else."""
    root = tmp_path / "photos"
    root.mkdir()
    (root / "rocket.jpg").write_bytes((SAMPLES / "rocket.jpg").read_bytes())
    (tmp_path / "secret.jpg").write_bytes((SAMPLES / "cat.jpg").read_bytes())
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    async with over_stdio(stack_url, "--root", str(root)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
        photo = await call(client, "upload", path="rocket.jpg")
        refusals = [
            await refusal(client, "upload", path=path)
            for path in ("../secret.jpg", "link.jpg", str(tmp_path / "secret.jpg"))
        ]
        missing = await refusal(client, "upload", path="no.jpg")
        await edit_photo(client, photo["picture"])

    assert all("outside the folder" in text for text in refusals)
    assert "no file" in missing
    assert str(tmp_path) not in "".join([*refusals, missing])


async def test_a_session_over_http(stack_url: str) -> None:
    """With the key; pictures come as base64, and no file of the machine is read."""
    data = base64.b64encode((SAMPLES / "rocket.jpg").read_bytes()).decode()
    async with http_server(stack_url) as address, over_http(address) as client:
        photo = await call(client, "upload", data=data)
        path = await refusal(client, "upload", path=str(SAMPLES / "rocket.jpg"))
        await edit_photo(client, photo["picture"])

    assert "reads no files" in path


async def test_mistakes_are_errors_of_the_tool(stack_url: str) -> None:
    """A model reads the sentence and tries again; an unknown resource is an error of the protocol."""
    unknown = "artmancer://images/" + "0" * 64
    async with over_stdio(stack_url) as client:
        texts = [
            await refusal(client, "upload"),
            await refusal(client, "upload", data="%"),
            await refusal(client, "upload", data=base64.b64encode(b"no picture").decode()),
            await refusal(client, "upload", path="photo.jpg"),
            await refusal(client, "select", picture="photo.jpg"),
            await refusal(client, "remove", picture=unknown, mask=unknown),
            await refusal(client, "compare", before=unknown, after=unknown),
            await refusal(client, "balance", picture=unknown, strength=7),
        ]
        with pytest.raises(MCPError):
            await client.read_resource(unknown)

    words = ["path or data", "base64", "not a readable image", "--root", "artmancer://", "not there", "", "strength"]
    assert all(word in text for word, text in zip(words, texts, strict=True)), texts
    assert not any("Traceback" in text for text in texts)


async def test_a_call_that_is_given_up_cancels_its_job(stack: RunningStack) -> None:
    """Its worker stands still, so it cannot end otherwise."""
    url = stack.http_url
    async with over_stdio(url) as client, AsyncClient(url) as own, stack.paused("a100worker"):
        known = {job.id async for job in own.jobs()}
        photo = await own.upload(SAMPLES / "rocket.jpg")
        mask = await own.mask(photo, on=[(330, 200)])
        begun = asyncio.Event()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            del progress, total, message
            begun.set()

        names = {"picture": f"artmancer://images/{photo}", "mask": f"artmancer://images/{mask.sha256}"}
        calling = asyncio.create_task(client.call_tool("remove", names, progress_callback=note), name="call")
        await begun.wait()
        calling.cancel()
        await asyncio.wait({calling})

        async def has_ended() -> bool:
            return [job.status async for job in own.jobs() if job.id not in known] == ["cancelled"]

        await wait_until(has_ended, "the job is cancelled")


async def test_without_the_key_or_from_a_web_page_nothing_answers(stack_url: str) -> None:
    """401 before the body is read, 421 for another host name, 403 for a page of another site."""
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    authorized = {"Authorization": f"Bearer {KEY}", "Accept": "application/json, text/event-stream"}
    async with http_server(stack_url) as address, httpx.AsyncClient() as web:
        none = await web.post(address, json=ping)
        wrong = await web.post(address, json=ping, headers={"Authorization": f"Bearer {KEY}x"})
        rebound = await web.post(address, json=ping, headers={**authorized, "Host": "evil.example"})
        foreign = await web.post(address, json=ping, headers={**authorized, "Origin": "https://evil.example"})
        page = await web.post(address, json=ping, headers={**authorized, "Origin": "null"})

    assert [answer.status_code for answer in (none, wrong, rebound, foreign, page)] == [401, 401, 421, 403, 403]
