"""Fixtures for all tests: a real nats-server for each test that uses one, and a check that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import settings as hypothesis_settings

from services.gateway.decoding.decoders import Decoders
from services.stack.nats_server import NatsServer
from shared import declaring
from shared.bus import Bus, open_bus
from shared.image_codec import probe_in_thread
from shared.image_store import NatsImageStore
from shared.settings import NatsSettings, StreamSettings
from tests.chromium import find_chromium
from tests.gateway import SAMPLES, WorkerByHand, gateway
from tests.keys import Keys
from tests.running import Desk
from tests.stack import RunningStack, running_stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.gateway import Client

# A slow machine fails no test.
hypothesis_settings.register_profile("without deadline", hypothesis_settings(), deadline=None)
hypothesis_settings.load_profile("without deadline")

# A shell ignores Ctrl-C for its background processes, and all their children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Threads of libraries that end with their event loop or live as long as the process.
_LIBRARY_THREADS = (
    "asyncio_", "asyncio-waitpid-", "AnyIO worker thread", "pytest_timeout", "ThreadPoolExecutor-", "tqdm_monitor",
)  # fmt: skip


@pytest.fixture(autouse=True)
async def nothing_left_behind() -> AsyncIterator[None]:
    """Every test ends with the tasks, child processes and threads that it began with."""
    threads, children = set(threading.enumerate()), _children()

    yield

    tasks = sorted(task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()})
    assert not tasks, f"The test left tasks running: {tasks}."
    left = sorted(child.name() for child in _children() - children)
    assert not left, f"The test left child processes: {left}."
    new = sorted(
        thread.name
        for thread in set(threading.enumerate()) - threads
        if thread.is_alive() and not thread.name.startswith(_LIBRARY_THREADS)
    )
    assert not new, f"The test left threads running: {new}."


@pytest.fixture
def new_children() -> Callable[[], list[psutil.Process]]:
    """Return a function that lists the child processes that were started since the test began."""
    before = _children()
    return lambda: [child for child in psutil.Process().children() if child not in before]


def _children() -> set[psutil.Process]:
    """Return the child processes; the kernel reports at once that there is none, as for most tests."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    return set(psutil.Process().children())


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where the browser is. Without one, browser tests are skipped; in CI they fail."""
    found = find_chromium()
    if found is None and os.environ.get("CI"):
        pytest.fail("Chromium is missing: `.ci/install-system-packages` installs it.")
    if found is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium-headless-shell).")
    return found


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """Provide a nats-server of the test's own, with an empty store, on a free port."""
    async with NatsServer(tmp_path / "nats") as server:
        yield server
        await server.kill()  # to close a store that goes into the bin takes it a seventh of a second


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Return the keys of all services and the operator, as `make credentials` creates them."""
    return Keys.made(tmp_path / "keys")


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    """Where that server listens."""
    return nats_server.url


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Provide the whole system, started once for all tests that ask for it."""
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="session")
def stack_url(stack: RunningStack) -> str:
    """Return the address of its gateway."""
    return stack.http_url


@pytest.fixture
def stream_settings() -> StreamSettings:
    """Return settings with small buckets and leases that outlast a stalled machine; tests of leases override them."""
    return StreamSettings(lease_s=30.0, picture_bytes=1024**3)


@pytest.fixture
async def bare_bus(nats_url: str) -> AsyncIterator[Bus]:
    """Provide a connection to the test's nats-server, in which no stream has been declared yet."""
    async with open_bus(NatsSettings(url=nats_url), "test") as bus:
        yield bus


@pytest.fixture
async def bus(bare_bus: Bus, stream_settings: StreamSettings) -> Bus:
    """Return a connection to the test's nats-server, with all streams, consumers and buckets declared."""
    await declaring.declare_streams(bare_bus, stream_settings)
    return bare_bus


@pytest.fixture
def images(bus: Bus) -> NatsImageStore:
    """Return the picture store in the test's nats-server."""
    return NatsImageStore(bus, probe_in_thread)


@pytest.fixture
async def decoders() -> AsyncIterator[Decoders]:
    """Provide the gateway's pool of decoding children; they start at the first file."""
    async with Decoders(quick_children=1) as decoders:
        yield decoders


@pytest.fixture
async def desk(bus: Bus, nats_url: str, images: NatsImageStore, stream_settings: StreamSettings) -> Desk:
    """Provide a desk that submits jobs on a stored photo."""
    photo = await images.put("inputs", (SAMPLES / "cat.jpg").read_bytes())
    return Desk(bus, nats_url, stream_settings, photo.sha256)


@pytest.fixture
async def client(bus: Bus, nats_url: str, stream_settings: StreamSettings) -> AsyncIterator[Client]:
    """Provide a browser page, or a program, before a running gateway that does not wait long for results."""
    assert bus.is_connected
    async with gateway(NatsSettings(url=nats_url), stream_settings, result_wait_s=0.3) as client:
        yield client


@pytest.fixture
def worker(bus: Bus, images: NatsImageStore) -> WorkerByHand:
    """Plays job manager and worker, where a test starts neither."""
    return WorkerByHand(bus, images)
