"""A small file that claims to be a huge picture: how soon it is refused, and how much memory that takes."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import time
import zlib
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI, Response
from PIL import Image
from pydantic import BaseModel

from tests.benchmarks.measuring.photos import base64_of, mask
from tests.benchmarks.measuring.servers import plain_server, running_stack

if TYPE_CHECKING:
    import psutil

    from tests.benchmarks.measuring.meter import Table

pytestmark = pytest.mark.timeout(120)
ROUTE = "/api/generate/async"
SIDE_PX = 30_000
RUNS = 20
TARGET_MS, TARGET_MB = 50.0, 64.0


class Order(BaseModel):
    """As much of it as the baseline reads."""

    input_image: str


def plain_app() -> FastAPI:
    """Read the header with Pillow, and nothing else."""
    app = FastAPI()

    @app.get("/api/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.post(ROUTE)
    def submit(order: Order) -> Response:
        try:
            Image.open(io.BytesIO(base64.b64decode(order.input_image)))
        except Image.DecompressionBombError:
            return Response(status_code=413)
        return Response(status_code=200)

    return app


def huge() -> bytes:
    """Return a whole PNG of one bit a pixel: 110 kB, which would be 900 megapixels."""
    rows = zlib.compressobj(9)
    body = b"".join([*(rows.compress(bytes(1 + SIDE_PX // 8)) for _ in range(SIDE_PX)), rows.flush()])
    header = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def measure_refusal(url: str, server: psutil.Process, body: bytes) -> tuple[float, float]:
    """Milliseconds until the answer, the median; and by how many MB the server's memory has grown at its highest."""
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=url, trust_env=False, timeout=60, headers=headers) as client:
        assert client.post(ROUTE, content=body).status_code == 413  # loads the modules of the refusal
        before_mb = server.memory_info().rss / 1e6
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak counts from here
        times_ms = []
        for _ in range(RUNS):
            began = time.perf_counter()
            client.post(ROUTE, content=body)
            times_ms.append(1000 * (time.perf_counter() - began))
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    assert peak is not None
    return median(times_ms), int(peak[1]) * 1024 / 1e6 - before_mb


def test_a_huge_picture_is_refused_by_its_header(table: Table, tmp_path: Path) -> None:
    """Over HTTP, from the first byte of the request to the sentence."""
    order = {"prompt": "", "input_image": base64_of(huge()), "mask_image": base64_of(mask(64))}
    body = json.dumps(order).encode()
    with running_stack(tmp_path) as stack:
        ours_ms, ours_mb = measure_refusal(stack.url, stack.processes["gateway"], body)
    with plain_server(f"{__name__}:plain_app") as (url, server):
        plain_ms, plain_mb = measure_refusal(url, server, body)

    table.row(f"refusing a header of {SIDE_PX} px a side", ours_ms, "ms", target=TARGET_MS, baseline=plain_ms)
    table.row("  memory that it takes, gateway", ours_mb, "MB", target=TARGET_MB, baseline=plain_mb)
