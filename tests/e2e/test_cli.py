"""The command line on the running system, as a process: a folder that is interrupted, repeated, and worked on twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from services.cli import AsyncClient, Client
from tests.gateway import SAMPLES
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

REGION = "8,8,20,20"
pytestmark = pytest.mark.timeout(300)


async def launch(url: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start the command line."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "--url", url, "--json", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def outcomes(process: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    """Wait for its end, which must be a success, and return its lines."""
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return [json.loads(line) for line in out.splitlines()]


def make_photos(folder: Path, count: int) -> list[Path]:
    """Write small photos, each another."""
    rng = np.random.default_rng(3)
    paths = [folder / f"photo-{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (32, 40, 3), np.uint8)).save(path)
    return paths


async def test_a_folder_is_edited_once(stack_url: str, tmp_path: Path) -> None:
    """By a run that is killed, and by two runs at once after it: one job for each photo."""
    paths = make_photos(tmp_path, 6)
    command = ("remove", str(tmp_path), "--region", REGION, "--jobs", "2")
    killed = await launch(stack_url, *command)
    await wait_until(lambda: len(os.listdir(tmp_path)) > len(paths), "the first result is written", 120)  # noqa: PTH208
    killed.kill()
    await killed.communicate()

    both = [await launch(stack_url, *command) for _ in range(2)]
    lines = [await outcomes(process) for process in both]

    assert all({line["status"] for line in run} <= {"done", "skipped"} and len(run) == len(paths) for run in lines)
    async with AsyncClient(stack_url) as client:
        for path in paths:
            sha256 = await client.upload(path)
            jobs = [job for job in [job async for job in client.jobs()] if job.result and job.task == "removal"]
            receipts = [await client.receipt(job.id) for job in jobs]
            assert len([receipt for receipt in receipts if receipt.inputs.get("image") == sha256]) == 1
            before, after = (
                np.asarray(Image.open(file)) for file in (path, path.with_name(f"{path.stem}-removed.png"))
            )
            changed = np.argwhere((before != after).any(axis=-1))
            assert len(changed)
            assert changed.min() >= 8 - 6
            assert changed.max() < 20 + 6


async def test_ctrl_c_is_a_sentence() -> None:
    """While it waits for the server."""
    connected, before = asyncio.Event(), len(asyncio.all_tasks())

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        while await reader.read(1000):
            pass
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as silent:
        process = await launch(f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}", "watch", "j1")
        await asyncio.wait_for(connected.wait(), 60)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        await wait_until(lambda: len(asyncio.all_tasks()) <= before, "the connection has ended")

    assert process.returncode == 130
    assert err == b"artmancer: Interrupted. The jobs go on; repeat the command to fetch their results.\n"


def test_the_readmes_edit_in_python(stack_url: str) -> None:
    """Select by a click, remove, and check the receipt."""
    photo = SAMPLES / "rocket.jpg"
    with Client(stack_url) as client:
        mask = client.mask(photo, on=[(330, 200)])
        job = client.wait(client.submit("removal", photo, mask=mask.sha256).id)
        picture, as_it_came = client.result(job.id), client.result(job.id, format="original")

        assert client.receipt(job.id).pixels_changed_outside_mask == 0
        assert picture.startswith(b"\x89PNG")
        assert as_it_came.startswith(b"\xff\xd8\xff")
        assert client.cut_out(photo, mask.sha256).startswith(b"\x89PNG")
