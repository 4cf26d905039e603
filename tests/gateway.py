"""A gateway under test, used over real sockets with the deployed client's bodies."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import httpx
from PIL import Image, ImageDraw

from services.gateway.service import run
from services.gateway.settings import Settings
from shared import subjects
from shared.messages import Cancelled, Done, Failed, Progress, Queued, Started, Task
from shared.topology import JOB_EV
from tests.ports import free_port
from tests.running import service_process
from tests.waiting import TIMEOUT_S, wait_until

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from shared.bus import Bus
    from shared.image_store import ImageStore
    from shared.messages import ImageRef, JobEvent
    from shared.settings import NatsSettings, StreamSettings

ORIGIN = "http://localhost:3000"
HOST = "127.0.0.1"
ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "services/gateway/static/samples"
# httpx reads all certificate authorities for each client, 25 ms of CPU; these clients use plain HTTP.
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Client(httpx.AsyncClient):
    """A browser page of the deployed client: every request carries its origin."""

    def __init__(self, port: int, key: str = "") -> None:
        """`key` is sent with each request, for a gateway that requires keys."""
        self.access = {"Authorization": f"Bearer {key}"} if key else {}
        super().__init__(
            base_url=f"http://{HOST}:{port}",
            headers={"Origin": ORIGIN, **self.access},
            timeout=TIMEOUT_S,
            verify=NO_AUTHORITIES,
        )
        self.port = port

    async def submit(self, **changes: Any) -> str:
        """Submit an edit and return its task id."""
        answer = await self.post("/api/generate/async", json=edit(**changes))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["task_id"])

    async def open_stream(self, path: str) -> Wire:
        """Request a stream over a socket of its own, to read its raw bytes."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        sent = "".join(f"{name}: {value}\r\n" for name, value in {"Origin": ORIGIN, **self.access}.items())
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{sent}\r\n".encode())
        return Wire((await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer)


class Wire:
    """A streamed response, chunk by chunk."""

    def __init__(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.status = int(head.split()[1])
        self._reader = reader
        self._writer = writer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def chunk(self) -> bytes:
        """Return the next chunk of the body, or nothing at its end."""
        async with asyncio.timeout(TIMEOUT_S):
            size = int(await self._reader.readline(), 16)
            data = await self._reader.readexactly(size + 2)
        return data[:-2]

    async def status_word(self) -> str:
        """Return the status in the next event."""
        return str(event_of(await self.chunk())["status"])

    async def rest(self) -> list[bytes]:
        """Read until the body ends."""
        chunks = []
        while chunk := await self.chunk():
            chunks.append(chunk)
        return chunks


def event_of(frame: bytes) -> dict[str, Any]:
    """Read the JSON of one event."""
    loaded: dict[str, Any] = json.loads(frame.removeprefix(b"data: "))
    return loaded


@asynccontextmanager
async def gateway(nats: NatsSettings, streams: StreamSettings, **settings: Any) -> AsyncIterator[Client]:
    """Run a gateway in this event loop on a free port; yield when it is healthy."""
    stop = asyncio.Event()
    chosen = Settings(nats=nats, streams=streams, host=HOST, port=free_port(), **settings)
    async with asyncio.TaskGroup() as group, Client(chosen.port) as client:
        group.create_task(run(chosen, stop), name="gateway")

        async def listening() -> bool:
            try:
                return bool((await client.get("/api/health")).json()["status"] == "healthy")
            except httpx.TransportError:  # it is not there yet, or its short timeout ended the request
                return False

        await wait_until(listening, "the gateway is healthy")
        try:
            yield client
        finally:
            stop.set()


def gateway_process(descriptors: int | None = None, /, **variables: str) -> AbstractAsyncContextManager[Process]:
    """Run `python -m services.gateway` while the block runs. It may have few `descriptors`."""
    return service_process("gateway", descriptors, **variables)


async def healthy(client: Client, word: str = "healthy") -> None:
    """Wait until the gateway's own health has this status."""

    async def says_so() -> bool:
        try:
            return bool((await client.get("/api/health")).json()["status"] == word)
        except httpx.TransportError:
            return False

    await wait_until(says_so, f"the gateway is {word}")


class WorkerByHand:
    """Publishes a job manager's and a worker's events at the test's command."""

    def __init__(self, bus: Bus, images: ImageStore, user: str = "local") -> None:
        self._bus = bus
        self._images = images
        self._user = user

    async def say(self, event: JobEvent) -> int:
        """Store an event of a job, once."""
        ends = isinstance(event, Done | Failed | Cancelled)
        subject = subjects.end(event.job_id) if ends else subjects.event(event.job_id, event.type)
        return await self._bus.publish(subject, event, msg_id=uuid4().hex)

    async def queue(self, job_id: str, steps: int = 3) -> None:
        """Publish that the job manager has queued the job."""
        facts = {"task": Task.REMOVAL, "job_class": "interactive", "log_seq": 1, "total_steps": steps}
        await self.say(Queued.model_validate({"job_id": job_id, "user": self._user, **facts}))

    async def start(self, job_id: str) -> None:
        """Publish that a worker has started it."""
        await self.say(Started(job_id=job_id, worker="w1", engine="by-hand", attempt=1))

    async def load(self, job_id: str, fraction: float) -> None:
        """Publish that the worker's model is loading."""
        await self.say(Progress(job_id=job_id, phase="loading", fraction=fraction))

    async def step(self, job_id: str, step: int | None, total: int | None = 3, message: str | None = None) -> None:
        """Publish progress at a step; None: the worker is preparing."""
        await self.say(
            Progress(
                job_id=job_id, phase="processing", step=step, total_steps=total if step else None, fraction=0.5,
                message=message,
            )
        )  # fmt: skip

    async def finish(self, job_id: str, picture: bytes | None = None, patch: ImageRef | None = None) -> ImageRef:
        """Store a result and publish the job's end; a patch is at 3, 5."""
        result = await self._images.put("results", png("red") if picture is None else picture)
        await self.say(
            Done(
                job_id=job_id, worker="w1", engine="by-hand", attempt=1, result=result, duration_ms=1500, seed=42,
                changed_outside_px=0, patch=patch, changed_box=patch and (3, 5, patch.width, patch.height),
            )
        )  # fmt: skip
        return result

    async def fail(self, job_id: str, message: str) -> None:
        """Publish that the job failed."""
        await self.say(Failed(job_id=job_id, code="engine_failed", message=message, attempt=3))

    async def ends(self, job_id: str) -> list[str]:
        """Return the types of the stored terminal events."""
        stored = await self._bus.history(JOB_EV, subjects.end(job_id))
        return [json.loads(entry.data)["type"] for entry in stored]


# --- requests of clients ------------------------------------------------------------------------------------------


def png(colour: str = "navy", size: tuple[int, int] = (64, 48), mode: str = "RGB") -> bytes:
    """Return an image of one colour."""
    return saved(Image.new(mode, size, colour))


def mask_png(size: tuple[int, int] = (64, 48), box: tuple[int, int, int, int] | None = (10, 10, 30, 30)) -> bytes:
    """Return a mask as the client's canvas writes it: white on black, opaque RGBA. Without a box it is empty."""
    picture = Image.new("RGBA", size, (0, 0, 0, 255))
    if box is not None:
        ImageDraw.Draw(picture).rectangle(box, fill=(255, 255, 255, 255))
    return saved(picture)


def saved(picture: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """Return the image as a file."""
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def b64(data: bytes) -> str:
    """Return base64 without a prefix."""
    return base64.b64encode(data).decode()


def edit(**changes: Any) -> dict[str, Any]:
    """Return the deployed client's body of a removal with changes; a value of ... omits a field."""
    mask = b64(mask_png())
    body = {
        "prompt": "remove object",
        "input_image": b64(png()),
        "conditional_images": [mask],
        "mask_image": mask,
        "num_inference_steps": 15,
        "guidance_scale": 2.0,
        "true_cfg_scale": 2.0,
        "seed": 42,
        "task_type": "removal",
        "input_quality": "resized",
        "mask_tool_type": "brush",
        "enable_mae_refinement": True,
        "enable_debug": False,
    }
    return {key: value for key, value in {**body, **changes}.items() if value is not ...}
