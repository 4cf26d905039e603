"""The tools. Each calls /v1 through the SDK, reports progress, and returns its pictures as resources with a preview.

The MCP library evaluates the annotations of the tools, so this module does not postpone them.
"""

import asyncio
import base64
import binascii
from collections.abc import Awaitable
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp_types import CallToolResult, ImageContent, ResourceLink, TextContent
from pydantic import BaseModel, Field

from services.cli import ApiError, ArtMancerError, AsyncClient
from services.cli.calls import Task
from services.cli.models import TERMINAL, Job
from services.mcp import pictures
from services.mcp.answers import Comparison, Edit, Picture, Selection
from services.mcp.files import Files

T = TypeVar("T")
Address = Annotated[
    str, Field(description="A picture: artmancer://images/<sha256>, as upload and the edits return it.")
]
Mask = Annotated[str, Field(description="A mask, white on the region: from select, or uploaded.")]
Point = tuple[float, float]
Points = Annotated[list[Point], Field(max_length=32)]
Box = tuple[float, float, float, float]
Seed = Annotated[int, Field(ge=0, description="The same seed gives the same edit.")] | None
_NOT_FOUND = 404


class Tools:
    """The tools of one server. `client` has the server's API key; `files` limits the local files."""

    def __init__(self, client: AsyncClient, files: Files) -> None:
        self._client = client
        self._files = files
        self._opening = asyncio.Lock()  # one large picture in memory at a time

    async def upload(
        self,
        path: Annotated[str | None, Field(description="A file in the folder that this server may read.")] = None,
        data: Annotated[str | None, Field(description="Or the file itself, in base64.")] = None,
    ) -> Annotated[CallToolResult, Picture]:
        """Upload a photo or a mask, and return its address. Give either a path or data."""
        if (path is None) == (data is None):
            raise ToolError("Give either path or data.")
        content = _decode(data) if data is not None else await asyncio.to_thread(self._files.read, path or "")
        sha256 = await _answer(self._client.upload(content))
        return await self._show(Picture(picture=pictures.SCHEME + sha256), sha256, "Uploaded picture", content)

    async def select(
        self,
        picture: Address,
        on: Annotated[Points, Field(description="Points [x, y] on the object, in pixels from the top left.")] = [],  # noqa: B006
        off: Annotated[Points, Field(description="Points beside the object.")] = [],  # noqa: B006
        box: Annotated[Box | None, Field(description="A box round it: left, top, right, bottom.")] = None,
        grow: Annotated[int, Field(ge=-200, le=200, description="Grow the mask by so many pixels.")] = 0,
    ) -> Annotated[CallToolResult, Selection]:
        """Find an object by points or a box, or without both the main object, and return its mask."""
        found = await _answer(
            self._client.mask(pictures.name_of(picture), on=on, off=off, box=box, grow=grow, candidates=3)
        )
        answer = Selection(
            mask=pictures.SCHEME + found.sha256,
            score=found.score,
            note=found.note,
            candidates=[pictures.SCHEME + candidate.sha256 for candidate in found.candidates],
        )
        return await self._show(answer, found.sha256, "Mask")

    async def remove(
        self, picture: Address, mask: Mask, ctx: Context, seed: Seed = None
    ) -> Annotated[CallToolResult, Edit]:
        """Remove the masked object, with a rim of about 1 % around it, and fill the region from its surroundings."""
        return await self._edit(ctx, "removal", {"image": picture, "mask": mask}, seed=seed)

    async def insert(
        self,
        picture: Address,
        mask: Mask,
        reference: Annotated[str, Field(description="The picture of the object to insert.")],
        ctx: Context,
        reference_mask: Annotated[str | None, Field(description="The object's region in the reference.")] = None,
        seed: Seed = None,
    ) -> Annotated[CallToolResult, Edit]:
        """Insert the object of a reference picture into the masked region. Nothing changes far from the mask."""
        named = {"image": picture, "mask": mask, "reference": reference, "reference_mask": reference_mask}
        return await self._edit(ctx, "insertion", named, seed=seed)

    async def balance(
        self,
        picture: Address,
        ctx: Context,
        strength: Annotated[float, Field(ge=0, le=1, description="0 changes nothing.")] = 1.0,
        temperature: Annotated[float, Field(ge=-100, le=100, description="Positive is warmer.")] = 0.0,
    ) -> Annotated[CallToolResult, Edit]:
        """Correct the white balance of the whole photo."""
        warmer = {"temperature": temperature} if temperature else {}  # an older server does not know it
        return await self._edit(ctx, "white-balance", {"image": picture}, strength=strength, **warmer)

    async def cut_out(self, picture: Address, mask: Mask) -> Annotated[CallToolResult, Picture]:
        """Cut the masked object out, on a transparent square. The result can be the reference of insert."""
        names = pictures.name_of(picture), pictures.name_of(mask)
        return await self._keep(await _answer(self._client.cut_out(*names)), "Cut-out object")

    async def compare(self, before: Address, after: Address) -> Comparison:
        """Count the pixels that differ between two pictures of one size, and return the box round them."""
        first, second = [await self._download(reference) for reference in (before, after)]
        async with self._opening:
            found = await asyncio.to_thread(pictures.compare, first, second)
        return Comparison(changed_pixels=found.changed_pixels, share=found.share, box=found.box)

    async def read(self, sha256: str) -> bytes:
        """Return the bytes of a picture, for the resource template."""
        try:
            return await self._client.download(pictures.name_of(sha256))
        except ToolError as error:
            raise ResourceNotFoundError(str(error)) from None
        except ApiError as error:
            kind = ResourceNotFoundError if error.status == _NOT_FOUND else ResourceError
            raise kind(str(error)) from None
        except ArtMancerError as error:
            raise ResourceError(str(error)) from None

    async def _edit(self, ctx: Context, task: Task, named: dict[str, str | None], **options: Any) -> CallToolResult:
        """Submit a job, report its progress, and return its result as a picture."""
        images: dict[str, Any] = {field: pictures.name_of(name) for field, name in named.items() if name is not None}
        job = await _answer(self._client.submit(task, **images, **options))
        try:
            ended = await _answer(self._follow(ctx, job.id))
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):  # no client waits for the result
                await self._cancel(job.id)
            raise
        if ended.status != "done":
            raise ToolError(ended.error.message if ended.error else f"The job was {ended.status}.")
        receipt = await _answer(self._client.receipt(job.id))
        content = await _answer(self._client.result(job.id))
        sha256 = await _answer(self._client.upload(content))  # an edit can be the picture of the next one
        answer = Edit(
            picture=pictures.SCHEME + sha256,
            job_id=job.id,
            engine=receipt.engine,
            pixels_changed_outside_mask=receipt.pixels_changed_outside_mask,
        )
        return await self._show(answer, sha256, "Edited picture", content)

    async def _follow(self, ctx: Context, job_id: str) -> Job:
        async with aclosing(self._client.events(job_id)) as events:
            async for event in events:
                if event.name not in TERMINAL:
                    await ctx.report_progress(event.progress, 1.0, event.data.get("message") or event.name)
        return await self._client.job(job_id)

    async def _cancel(self, job_id: str) -> None:
        try:
            await self._client.cancel(job_id)
        except ArtMancerError:
            return  # the job runs to its end

    async def _keep(self, content: bytes, title: str) -> CallToolResult:
        sha256 = await _answer(self._client.upload(content))
        return await self._show(Picture(picture=pictures.SCHEME + sha256), sha256, title, content)

    async def _download(self, reference: str) -> bytes:
        return await _answer(self._client.download(pictures.name_of(reference)))

    async def _show(self, answer: BaseModel, sha256: str, title: str, content: bytes | None = None) -> CallToolResult:
        """Return the answer, a link to the picture, and a small preview where one can be made."""
        data = await _answer(self._client.download(sha256)) if content is None else content
        uri = pictures.SCHEME + sha256
        link = ResourceLink(name=sha256[:12], title=title, uri=uri, mime_type="image/*", size=len(data))
        blocks: list[Any] = [TextContent(text=answer.model_dump_json()), link]
        try:
            async with self._opening:
                jpeg = await asyncio.to_thread(pictures.preview_of, data)
        except ToolError:
            pass  # for example HEIC: the gateway can read it, this process cannot
        else:
            blocks.append(ImageContent(data=base64.b64encode(jpeg).decode(), mime_type="image/jpeg"))
        return CallToolResult(content=blocks, structured_content=answer.model_dump(mode="json"))


async def _answer(call: Awaitable[T]) -> T:
    """Return the answer of the server, or raise its refusal as an error of the tool."""
    try:
        return await call
    except ArtMancerError as error:
        raise ToolError(str(error)) from None


def _decode(data: str) -> bytes:
    try:
        return base64.b64decode(data.partition(",")[2] if data.startswith("data:") else data, validate=True)
    except binascii.Error:
        raise ToolError("The field data is not valid base64.") from None
