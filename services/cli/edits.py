"""One command on one photo: find the mask, run the job or the extraction, and return the bytes to write."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from .errors import ApiError, ArtMancerError, JobEnded
from .upright import turn_upright

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from pathlib import Path

    from .async_client import AsyncClient
    from .calls import Task
    from .models import Event, Job

_TASKS: dict[str, Task] = {"remove": "removal", "insert": "insertion", "balance": "white-balance"}
_OPTIONS = ("prompt", "seed", "steps", "guidance", "strength", "temperature")
_TRIES = 9
_GONE = 410


async def run(client: AsyncClient, photo: Path, options: Namespace, on_event: Callable[[Event], None]) -> bytes:
    """Return the result of the command for one photo. Raises ArtMancerError."""
    if options.command == "mask":
        return await client.download(await _mask(client, photo, options))
    if options.command == "cut-out":
        frame = {"frame": "photo"} if options.full_size else {}
        return await client.cut_out(photo, await _mask(client, photo, options), **frame)
    fields: dict[str, Any] = {"image": await client.upload(photo)}
    if options.command != "balance":
        fields["mask"] = await _mask(client, photo, options)
    if options.command == "insert":
        fields["reference"] = await client.upload(options.reference)
        fields["reference_mask"] = await client.upload(options.reference_mask) if options.reference_mask else None
    return await _edit(client, _TASKS[options.command], fields, options, on_event)


async def _mask(client: AsyncClient, photo: Path, options: Namespace) -> str:
    """Return the SHA-256 of the mask that the selection describes."""
    if options.mask:
        return await client.upload(options.mask)
    if options.region:
        return await client.upload(draw_region(photo, options.region))
    grow = {} if options.grow is None else {"grow": options.grow}
    found = await client.mask(photo, on=options.click, off=options.off, box=options.box, **grow)
    return found.sha256


def draw_region(photo: Path, region: tuple[float, float, float, float]) -> bytes:
    """Return a mask with a white rectangle, x0, y0, x1, y1 in pixels of the upright photo, as a PNG.

    Raises ArtMancerError for a file that Pillow cannot open, such as a HEIC.
    """
    try:
        with Image.open(photo) as opened:
            size = turn_upright(opened).size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise ArtMancerError("Its size cannot be read here; mark the object with --click, --box or --mask.") from None
    mask = Image.new("L", size)
    x0, y0, x1, y1 = region
    corners = (min(x0, x1), min(y0, y1), max(x0, x1) - 1, max(y0, y1) - 1)
    ImageDraw.Draw(mask).rectangle(corners, fill=255)
    file = io.BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()


async def _edit(
    client: AsyncClient,
    task: Task,
    fields: dict[str, Any],
    options: Namespace,
    on_event: Callable[[Event], None],
) -> bytes:
    """Run the job of these fields, or continue the one of an earlier run: the key is derived from the fields.

    A job of an earlier run that failed, was cancelled or has lost its result is run again with the next key.
    """
    extra = {name: value for name in _OPTIONS if (value := getattr(options, name, None)) is not None}
    extra["class"] = options.job_class
    key = hashlib.sha256(json.dumps([task, fields, extra], sort_keys=True).encode()).hexdigest()[:40]
    for number in range(1, _TRIES + 1):
        try:
            job = await client.submit(task, **fields, key=f"cli-{key}-{number}", **extra)
            if job.status in {"failed", "cancelled"}:
                continue  # from an earlier run: a new job has not ended yet
            return await _result_of(client, job, options.format, on_event)
        except ApiError as error:
            if error.status not in {_GONE, 404} or number == _TRIES:
                raise
    raise ArtMancerError(f"This edit has failed {_TRIES} times; change it, or wait a week.")


async def _result_of(
    client: AsyncClient, job: Job, format_name: str | None, on_event: Callable[[Event], None]
) -> bytes:
    async for event in client.events(job.id):
        on_event(event)
    ended = await client.job(job.id)
    if ended.status != "done":
        raise JobEnded(ended)
    return await client.result(job.id, **({"format": format_name} if format_name else {}))
