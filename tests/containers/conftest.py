"""Provide the container engine and the whole system, started once as a user starts it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from deploy import access, credentials
from services.gateway import keys
from services.gateway.access.principal import KeyScope
from tests.containers.engine import ROOT, Engine
from tests.containers.project import Project, health_checked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

URL = "https://localhost"


@pytest.fixture(scope="session", autouse=True)
def inside() -> None:
    """Whether the driver has made the images and the namespaces; skipped where it could not."""
    if why_not := os.environ.get("CONTAINERS_OBSTACLE"):
        pytest.skip(why_not)
    if "CONTAINERS_INSIDE" not in os.environ:
        pytest.skip("`make test-containers` runs these, in namespaces of their own.")


@pytest.fixture(scope="session")
def engine(inside: None) -> Iterator[Engine]:
    """Podman, serving Docker's API; afterwards nothing runs and no volume is left."""
    del inside
    engine = Engine()
    with engine.serving(), health_checked(engine):
        yield engine
        engine.clear()


@pytest.fixture(scope="session")
def secrets(engine: Engine) -> Path:
    """Return the folder that `make secrets` makes."""
    folder = engine.work / "secrets"
    shutil.rmtree(folder, ignore_errors=True)
    credentials.make(folder, for_containers=True)
    access.make(folder / "access")
    return folder


@pytest.fixture(scope="session")
def project(engine: Engine, secrets: Path) -> Project:
    """Return the whole system, healthy. Its weights come from this machine: nothing needs the network."""
    # With room for a new address for each container: at one that is used again the others look for its last owner.
    addresses = {"FRONT_SUBNET": "10.213.77.0/24"}
    project = Project(engine, {"SECRETS": str(secrets), "GATEWAY_KEY_RATE_PER_S": "1000", **addresses})
    weights = f"{ROOT / '.models/u2netp'}:/from:ro"
    fetch = ("models", "pull", "u2netp", "--from", "/from")
    project.compose("run", "--rm", "--no-deps", "--volume", weights, *fetch)
    project.up()
    keep_addresses()
    asyncio.run(project.wait_until_healthy(150))
    return project


def keep_addresses() -> None:
    """Give each bridge the MAC address that it has, as Docker does and Podman does not.

    Left alone a bridge has the lowest of its members', which changes as containers come and go; for some ten seconds
    the others ask the DNS server at the old one.
    """
    for bridge in json.loads(subprocess.check_output(["ip", "-json", "link", "show", "type", "bridge"])):
        subprocess.run(["ip", "link", "set", "dev", bridge["ifname"], "address", bridge["address"]], check=True)


@pytest.fixture(scope="session")
def key(secrets: Path) -> str:
    """Return an API key, made while the gateway runs or before."""
    return keys.new(secrets / "access/keys.json", "tester", frozenset(KeyScope), None)


@pytest.fixture(scope="session")
def trust(project: Project) -> ssl.SSLContext:
    """Return a TLS context that trusts only Caddy's own authority."""
    root = project.compose("exec", "-T", "caddy", "/bin/busybox", "cat", "/data/pki/authorities/local/root.crt")
    return ssl.create_default_context(cadata=root)


@pytest.fixture
async def client(trust: ssl.SSLContext, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Provide a browser's way in, and a key."""
    bearer = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=URL, verify=trust, headers=bearer, http2=True, timeout=60) as client:
        yield client
