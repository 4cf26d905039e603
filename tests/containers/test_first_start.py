"""`docker compose up` on a fresh host: the whole system starts, locked down, and edits a photo through HTTPS."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.containers.edits import remove_the_spoon

if TYPE_CHECKING:
    from tests.containers.project import Project

OURS = ("gateway", "segmentation", "imageutils", "jobmanager", "a100worker")
pytestmark = pytest.mark.timeout(600)


async def test_the_system_is_healthy(client: httpx.AsyncClient, project: Project) -> None:
    """Every service is healthy, over HTTPS with a certificate of Caddy's authority; the weights are in use."""
    report = (await client.get("/api/system/health")).json()

    assert report["status"] == "healthy", report
    assert project.ill() == []
    assert project.container("artmancer-models-1").exit_code == 0
    assert report["services"]["segmentation"]["status"] == "healthy"


async def test_a_photo_is_edited_through_https(client: httpx.AsyncClient) -> None:
    """Mask, removal, result."""
    await remove_the_spoon(client)


async def test_http_leads_to_https(project: Project) -> None:
    """Plain HTTP is redirected to HTTPS."""
    del project
    async with httpx.AsyncClient(timeout=60) as plain:
        answer = await plain.get("http://localhost/")

    assert answer.status_code == 308
    assert answer.headers["location"] == "https://localhost/"


async def test_the_gateway_sees_who_comes(client: httpx.AsyncClient) -> None:
    """It believes Caddy, so that the addresses that it hands out begin with https."""
    answer = await client.get("/v1/openapi.json")

    assert answer.is_success
    assert answer.http_version == "HTTP/2"


@pytest.mark.parametrize("service", OURS)
def test_a_process_can_do_no_more_than_its_work(project: Project, service: str) -> None:
    """It is an ordinary user without capabilities, can gain none, and cannot write to its code."""
    probe = (
        "import os, pathlib\n"
        "status = dict(line.split(':\\t', 1) for line in open('/proc/1/status').read().splitlines())\n"
        "print(os.getuid(), os.getgid(), status['CapEff'], status['CapBnd'], status['NoNewPrivs'])\n"
        "for folder in ('/app', '/opt/venv', '/', '/tmp'):\n"
        "    try: pathlib.Path(folder, 'x').write_text(''); print(folder)\n"
        "    except OSError: pass\n"
    )

    said = project.engine.podman("exec", f"artmancer-{service}-1", "python", "-c", probe).splitlines()

    assert said == ["10001 10001 0000000000000000 0000000000000000 1", "/tmp"]  # noqa: S108


def test_nobody_but_caddy_listens_outside(project: Project) -> None:
    """The broker and the probes are in there somewhere, and cannot be reached."""
    del project
    open_ports = []
    for port in (80, 443, 4222, 8080, 8222, 8443, 9090):
        with socket.socket() as knock:
            if knock.connect_ex(("127.0.0.1", port)) == 0:
                open_ports.append(port)

    assert open_ports == [80, 443]
