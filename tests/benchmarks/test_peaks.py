"""The memory of each service at its largest work, against its limits in compose.yaml and in deploy/kubernetes.

Every service works on the largest pictures that are accepted, as many at once as it takes. The image utilities also
make every kind of rendition, of the largest result that it can be made of. What counts is the sum of Pss of the service
and its children; none of these services writes to /tmp, which a container counts as memory too.
"""

from __future__ import annotations

import asyncio
import io
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from shared import rpc, subjects
from shared.bus import open_bus
from shared.image_codec import encode_png, probe_in_thread
from shared.image_store import NatsImageStore
from shared.messages import (
    ExtractRequest,
    ImageRef,
    ImageReply,
    JobClass,
    JobSubmit,
    MaskReply,
    MaskRequest,
    RenditionReply,
    RenditionRequest,
    Task,
    WhiteBalanceRequest,
)
from shared.settings import NatsSettings
from shared.topology import JOB_EV
from tests.benchmarks.measuring.servers import running_stack
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    import psutil

    from shared.bus import Bus
    from tests.benchmarks.measuring.meter import Table
    from tests.benchmarks.measuring.servers import Stack

Rendered: TypeAlias = Literal["original", "png", "jpeg", "webp", "avif"]

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).parents[2]
SIDE_PX = 8192
PHONE_PX = 7000  # 49 megapixels
WEBP_PX, AVIF_PX = 5385, 4096  # the largest transparent WebP, and the largest AVIF
DEEP_PX, BMP_PX = 5792, 4600  # the largest picture with 16 bits, and the largest BMP that can be sent
WORK_S, SETTLE_S = 300.0, 10.0
KEPT_MB = 150.0
UNITS = {"m": 2**20, "g": 2**30, "Mi": 2**20, "Gi": 2**30}
AT_ONCE = {"imageutils": 4, "segmentation": 2, "a100worker": 2}  # of the worker one, and the next one's files


def in_bytes(text: str) -> int:
    number = text.rstrip("mgMiG")
    return int(float(number) * UNITS[text[len(number) :]])


def limits_of(service: str) -> dict[str, int]:
    """Return the memory limits of a service's container in bytes, by the place that states them."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"][service]
    documents = yaml.safe_load_all((ROOT / f"deploy/kubernetes/base/{service}.yaml").read_text())
    pods = [one["spec"]["template"]["spec"] for one in documents if one["kind"] == "Deployment"]
    (container,) = pods[0]["containers"]
    return {
        "compose": in_bytes(compose["deploy"]["resources"]["limits"]["memory"]),
        "Kubernetes": in_bytes(container["resources"]["limits"]["memory"]),
    }


def pss_bytes(process: psutil.Process) -> int:
    """Return the proportional memory of a process and its children."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            rollup = Path(f"/proc/{one.pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:  # it has just ended, or is another user's
            continue
        total += 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


class Watch:
    """The peak of a process while a block runs, looked at twenty times a second."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._ended = threading.Event()
        self.peak_bytes = 0

    @contextmanager
    def running(self) -> Iterator[Watch]:
        """Watch during the block."""
        thread = threading.Thread(target=self._look, name="peaks.watch")
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self.peak_bytes = max(self.peak_bytes, pss_bytes(self._process))


def photo(side: int, **options: object) -> bytes:
    """Return a JPEG of a disc, with a texture, so that its decoder has coefficients to keep."""
    tile = np.random.default_rng(side).integers(60, 190, (side // 16, side // 16, 3), np.uint8)
    pixels = cv2.resize(tile, (side, side))
    cv2.circle(pixels, (side // 2, side // 2), side // 3, (250, 30, 20), -1)
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "JPEG", quality=85, **options)
    return file.getvalue()


def mask(side: int) -> bytes:
    """Return a mask over nearly the whole photo, transparent outside, as a program might send it."""
    file = io.BytesIO()
    picture = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    picture.paste((255, 255, 255, 255), (200, 200, side - 200, side - 200))
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


class Client:
    """Asks the services over the bus, as the gateway does."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.images = NatsImageStore(bus, probe_in_thread)

    async def store(self, data: bytes) -> str:
        """Store a picture and return its name."""
        return (await self.images.put("inputs", data)).sha256

    async def extract(self, image: str, marks: str) -> None:
        """Cut an object out."""
        await rpc.call(
            self.bus, subjects.IMG_EXTRACT, ExtractRequest(image=image, mask=marks), ImageReply, timeout_s=WORK_S
        )

    async def balance(self, image: str) -> None:
        """Balance the colours."""
        await rpc.call(
            self.bus, subjects.IMG_WHITE_BALANCE, WhiteBalanceRequest(image=image), ImageReply, timeout_s=WORK_S
        )

    async def render(self, result: ImageRef, upload: str, wanted: Rendered) -> None:
        """Make a rendition of a result."""
        request = RenditionRequest(image=result, upload=upload, format=wanted)
        reply = await rpc.call(self.bus, subjects.IMG_RENDITION, request, RenditionReply, timeout_s=WORK_S)
        assert reply.image.size_bytes > 0

    async def select(self, image: str, name: str) -> None:
        """Find an object in a box, grown and feathered."""
        request = MaskRequest(request_id=name, image=image, box=(900, 900, 7000, 7000), grow_px=40, feather_px=30)
        await rpc.call(self.bus, subjects.SEG_MASK, request, MaskReply, timeout_s=WORK_S)

    async def edit(self, image: str, marks: str, job: str, reference: str | None = None) -> None:
        """Run a removal or, with a reference, an insertion; it must end with a result."""
        task = Task.REMOVAL if reference is None else Task.INSERTION
        submit = JobSubmit(task=task, image=image, mask=marks, reference=reference)
        await self.bus.publish(subjects.submission(JobClass.INTERACTIVE, "peaks", job), submit)

        async def has_ended() -> bool:
            end = await self.bus.last(JOB_EV, subjects.event(job, subjects.TERMINAL))
            assert end is None or b'"job.done"' in end.data or b'"done"' in end.data, end.data
            return end is not None

        await wait_until(has_ended, f"the job {job} ends", WORK_S)


async def work(service: str, client: Client, image: str, marks: str, at_once: int, name: str) -> None:
    """Let a service do its most expensive work, so many times at once."""
    async with asyncio.TaskGroup() as group:
        for number in range(at_once):
            turn = f"{name}{number}"
            if service == "imageutils":
                group.create_task(client.extract(image, marks) if number % 2 == 0 else client.balance(image), name=turn)
            elif service == "segmentation":
                group.create_task(client.select(image, turn), name=turn)
            else:
                reference = image if number % 2 else None  # the largest reference: the photo itself
                group.create_task(client.edit(image, marks, turn, reference), name=turn)


class Load(NamedTuple):
    """Renditions that are made at the same time: each with the shape of its result, its upload, and the format."""

    side_px: int
    channels: int
    upload: str
    wanted: Rendered


LOADS: dict[str, list[Load]] = {
    "opaque": [
        Load(SIDE_PX, 3, "JPEG", "original"),
        Load(SIDE_PX, 3, "JPEG", "webp"),
        Load(SIDE_PX, 3, "TIFF", "original"),
        Load(BMP_PX, 3, "BMP", "original"),
    ],
    "transparent": [
        Load(SIDE_PX, 4, "JPEG", "jpeg"),
        Load(SIDE_PX, 4, "JPEG", "png"),
        Load(WEBP_PX, 4, "JPEG", "webp"),
        Load(AVIF_PX, 4, "JPEG", "avif"),
    ],
    "deep": [
        Load(DEEP_PX, 3, "16 bits", "original"),
        Load(DEEP_PX, 4, "16 bits", "original"),
        Load(DEEP_PX, 3, "16 bits", "png"),
        Load(DEEP_PX, 4, "16 bits", "jpeg"),
    ],
    "AVIF": [Load(AVIF_PX - 64 * number, 3 + number % 2, "JPEG", "avif") for number in range(4)],
}


def upload_of(kind: str, side: int) -> bytes:
    """Return the upload of a rendition: metadata come from it, so a flat one will do, but for a JPEG."""
    if kind == "JPEG":
        return photo(side, progressive=True)
    if kind == "16 bits":
        return bytes(cv2.imencode(".tiff", np.full((side, side, 3), 30_000, np.uint16))[1])
    file = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(file, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    return file.getvalue()


def result_of(side: int, channels: int, *, deep: bool) -> bytes:
    """Return a stored result with a texture, and a transparent half if it has four channels; with 16 bits if `deep`."""
    tile = np.random.default_rng(side).integers(60, 190, (side // 16, side // 16, channels), np.uint8)
    pixels = np.asarray(cv2.resize(tile, (side, side)), np.uint8)
    pixels[: side // 2, :, 3:] = 90
    return encode_png(pixels.astype(np.uint16) * 257 if deep else pixels)


async def render_all(client: Client, loads: list[Load]) -> AsyncIterator[Callable[[], Coroutine[None, None, None]]]:
    """Store the pictures of a load, and yield its requests."""
    for load in loads:
        result = await client.images.put(
            "results", result_of(load.side_px, load.channels, deep=load.upload == "16 bits")
        )
        upload = await client.store(upload_of(load.upload, load.side_px))
        yield partial(client.render, result, upload, load.wanted)


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    room = {"STREAMS_PICTURE_BYTES": str(4 * 1024**3), "A100WORKER_BACKEND": "classical"}
    with running_stack(folder, **room) as running:
        yield running


@pytest.mark.parametrize("service", AT_ONCE)
async def test_a_service_keeps_its_limit(table: Table, service: str, tmp_path: Path) -> None:
    """Largest pictures, as many at once as the service takes: the peak fits each limit, and the memory goes back."""
    with stack(tmp_path) as running:
        process = running.processes[service]
        async with open_bus(NatsSettings(url=running.broker), "peaks") as bus:
            client = Client(bus)
            largest, marks = await client.store(photo(SIDE_PX, progressive=True)), await client.store(mask(SIDE_PX))
            phone, spot = await client.store(photo(PHONE_PX)), await client.store(mask(PHONE_PX))
            idle_mb = pss_bytes(process) / 1e6
            await work(service, client, phone, spot, 1, "phone")
            await asyncio.sleep(SETTLE_S)
            kept_mb = pss_bytes(process) / 1e6 - idle_mb
            with Watch(process).running() as watch:
                await work(service, client, largest, marks, AT_ONCE[service], "large")

    table.row(f"kept by {service} after 49 megapixels", kept_mb, "MB", target=KEPT_MB)
    limits = limits_of(service)
    for place, limit in limits.items():
        table.row(f"peak of {service}, limit of {place}", watch.peak_bytes / 1e6, "MB", target=limit / 1e6)
    assert watch.peak_bytes <= min(limits.values()), f"{service} needs more memory than its container has."


@pytest.mark.parametrize("name", LOADS)
async def test_renditions_keep_the_limit(table: Table, name: str, tmp_path: Path) -> None:
    """Four of the largest of each kind at once: the service's budget lets as many begin as fit into the container."""
    with stack(tmp_path) as running:
        process = running.processes["imageutils"]
        async with open_bus(NatsSettings(url=running.broker), "peaks") as bus:
            requests = [request async for request in render_all(Client(bus), LOADS[name])]
            with Watch(process).running() as watch:
                async with asyncio.TaskGroup() as group:
                    for number, request in enumerate(requests):
                        group.create_task(request(), name=f"rendition-{number}")

    limits = limits_of("imageutils")
    for place, limit in limits.items():
        table.row(f"peak of imageutils, {name} renditions, {place}", watch.peak_bytes / 1e6, "MB", target=limit / 1e6)
    assert watch.peak_bytes <= min(limits.values()), "The image utilities need more memory than their container has."
