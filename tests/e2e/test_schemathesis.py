"""Two minutes of requests that schemathesis derives from the OpenAPI document, valid and invalid."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from services.gateway.v1.routes.docs import SNAPSHOT

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
SECONDS = "120"


@pytest.mark.timeout(400)
async def test_no_request_is_a_server_error(stack_url: str, tmp_path: Path) -> None:
    """Every answer is a success or names the fault of the request."""
    process = await asyncio.create_subprocess_exec(
        SCHEMATHESIS, "run", SNAPSHOT, "--url", stack_url, "--max-time", SECONDS, "--checks", "not_a_server_error",
        "--request-timeout", "100", "--warnings", "off", "--no-color", "--continue-on-failure",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()

    assert process.returncode == 0, out.decode()[-6000:]
    assert b"Tested: " in out
