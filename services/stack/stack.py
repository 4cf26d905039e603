"""Runs the whole system on one machine: nats-server and the services as children, each restarted when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import shlex
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.stack.caddy import HTTPS_HOST, Caddy
from services.stack.disk import SETTING, fit_store
from services.stack.health import broker_answers, poll_until, stack_is_healthy
from services.stack.nats_server import NatsServer
from services.stack.process import Process, ProcessGroup
from services.stack.supervisor import Supervisor
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.stack.supervisor import Startable

DEFAULT_DATA = Path(".data")
_LOOPBACK = "127.0.0.1"
STAGE_S = 1.0  # after this time a stop continues with the next stage, even if processes of the last one still run
STOP_S = 4.0  # after this time a stop kills all remaining processes
# Services that compute yield to services that answer, and to other programs of the user. With eight extractions on two
# cores, 90 % of the health checks take at most 11 ms instead of 19 (medians of five runs); a value of 15 gains no more.
# Beside other programs a removal takes a fifth longer: 380 ms instead of 310, with a load of ten on two cores.
NICE = 5
_COMPUTING = frozenset({"a100worker", "segmentation", "imageutils"})

# glibc gives each thread an arena, which keeps the memory that a large image once needed. With one arena the gateway
# stays at 115 MB after 1,000 submissions (98 without numpy, 138 with many arenas), and an extraction takes 80 page
# faults instead of 5,000.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(128 * 1024**2),
    "MALLOC_MMAP_THRESHOLD_": str(128 * 1024**2),
}

# A service runs several jobs at once. With a thread of OpenBLAS for each core, which wait for each other beside other
# programs, a removal of 600 px from 12 megapixels took 410 to 1,600 ms of processor time; with one it takes 185.
THREADS = {"OPENBLAS_NUM_THREADS": "1"}
# U2-Net takes and returns 200 MB in each run. In huge pages a run takes 293 ms of processor time instead of 380, and 40
# page faults instead of 70,000. The other services gain nothing from them.
_HUGE_PAGES = ("env", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command line."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: a free port
    data: Path = DEFAULT_DATA
    nats_url: str | None = None  # None: start a nats-server
    workers: int = 1
    https_port: int | None = None  # None: HTTP only; 0: a free port
    metrics: bool = False  # each service gets a free port
    repair: bool = False  # correct the broker's store instead of running

    @property
    def repair_command(self) -> str:
        """The command that corrects the store of these options; empty for a broker that another program runs."""
        if self.nats_url is not None:
            return ""
        data = [] if self.data == DEFAULT_DATA else ["--data", str(self.data)]
        return shlex.join(["python", "-m", "services", "--repair", *data])


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the stack. Lower stages stop first."""

    name: str
    argv: tuple[str, ...]
    stage: int


def all_services(workers: int) -> list[Service]:
    """Return the services of the system, with this number of workers."""
    names = ["a100worker"] if workers == 1 else [f"a100worker-{number}" for number in range(1, workers + 1)]
    return [
        _service("gateway", "gateway", 0),
        *(_service(name, "a100worker", 1) for name in names),
        *(_service(name, name, 2) for name in ("segmentation", "imageutils", "jobmanager")),
    ]


def _service(name: str, module: str, stage: int) -> Service:
    nice = ("nice", "-n", str(NICE)) if module in _COMPUTING else ()
    pages = _HUGE_PAGES if module == "segmentation" else ()
    return Service(name, (*nice, *pages, sys.executable, "-m", f"services.{module}"), stage)


class Stack:
    """Runs nats-server and the services until `stop`."""

    def __init__(
        self,
        options: Options,
        services: Sequence[Service],
        *,
        announce: Callable[[str], None],
        log: Callable[[str, str], None],
    ) -> None:
        """`announce` gets the lines that a script may wait for, `log` a process name and a line of its output."""
        self._options = options
        self._services = services
        self._announce = announce
        self._log = log
        self._stages: dict[int, list[Supervisor]] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._failure: ConfigError | None = None
        self._store_limits: dict[str, str] = {}

    def stop(self) -> None:
        """Make `run` stop the stack and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Run the stack until `stop`, then stop it within STOP_S.

        Raises ConfigError if the port or the data folder is in use, or if a process refuses its settings.
        """
        port = free_port(self._options.host, self._options.port)
        caddy = self._create_caddy(port)
        with lock_data_folder(self._options.data):
            async with ProcessGroup() as group, asyncio.TaskGroup() as tasks:
                self._watchers.append(tasks.create_task(group.keep_guard(), name="guard"))
                starting = tasks.create_task(self._start(group, tasks, port, caddy), name="start")
                await self._stopping.wait()
                starting.cancel()
                await self._stop_processes()
                for task in self._watchers:
                    task.cancel()
                group.kill()
        if self._failure is not None:
            raise self._failure

    def _create_caddy(self, port: int) -> Caddy | None:
        if self._options.https_port is None:
            return None
        https_port = free_port(HTTPS_HOST, self._options.https_port)
        return Caddy(self._options.data, https_port, f"{self._options.host}:{port}")

    async def _start(self, group: ProcessGroup, tasks: asyncio.TaskGroup, port: int, caddy: Caddy | None) -> None:
        url = self._options.nats_url or await self._start_broker(group, tasks)
        if not await broker_answers(url):
            self._log("stack", "waiting for the broker")
            await poll_until(lambda: broker_answers(url))
        self._announce(f"broker {url}")
        if caddy is not None:
            self._supervise(tasks, "caddy", caddy.process(group, self._lines_of("caddy")), 1)
        probes = {each.name: free_port(_LOOPBACK, 0) for each in self._services} if self._options.metrics else {}
        environment = self._build_environment(url, port, behind_caddy=caddy is not None)
        for service in self._services:
            own = {"PROBE_PORT": str(probes[service.name])} if probes else {}
            lines = self._lines_of(service.name)
            process = Process(service.name, service.argv, group, env=environment | own, on_line=lines)
            self._supervise(tasks, service.name, process, service.stage)
        await self._announce_addresses(port, caddy)
        for name, probe in probes.items():
            self._announce(f"metrics {name} http://{_LOOPBACK}:{probe}/metrics")

    async def _start_broker(self, group: ProcessGroup, tasks: asyncio.TaskGroup) -> str:
        store = self._options.data / "nats"
        size = fit_store(store)
        if size is not None:
            self._log("stack", str(size))
            self._store_limits = {SETTING: str(size.images)}
        limit = None if size is None else size.whole
        server = NatsServer(store, group=group, max_store_bytes=limit, on_line=self._lines_of("nats"))
        last = max((service.stage for service in self._services), default=0) + 1
        await self._supervise(tasks, "nats", server, last).up.wait()
        self._watchers.append(tasks.create_task(server.restart_after_full_disk(), name="watch-disk"))
        return server.url

    def _build_environment(self, nats_url: str, port: int, *, behind_caddy: bool) -> dict[str, str]:
        environment = {
            **ALLOCATOR,
            **THREADS,
            **self._store_limits,
            "NATS_URL": nats_url,
            "GATEWAY_HOST": self._options.host,
            "GATEWAY_PORT": str(port),
            "A100WORKER_DRAIN_S": str(STAGE_S),  # a longer job is handed back while the broker still runs
            "GATEWAY_DRAIN_S": str(STAGE_S),  # an open page's connection must not delay the stop
            "STREAMS_REPAIR": self._options.repair_command,
            "PYTHONUNBUFFERED": "1",
        }
        return environment | ({"GATEWAY_TRUSTED_PROXIES": self._options.host} if behind_caddy else {})

    async def _announce_addresses(self, port: int, caddy: Caddy | None) -> None:
        await poll_until(lambda: stack_is_healthy(self._options.host, port))
        self._announce(f"ready http://{self._options.host}:{port}")
        if caddy is not None:
            await poll_until(caddy.serves)
            self._announce(f"ready {caddy.url}")
            self._announce(f"root certificate {caddy.root}")

    def _supervise(self, tasks: asyncio.TaskGroup, name: str, process: Startable, stage: int) -> Supervisor:
        def give_up(reason: str) -> None:
            self._failure = self._failure or ConfigError(f"{name} {reason}")
            self.stop()

        supervisor = Supervisor(
            process, report=lambda outcome: self._log("stack", f"{name} {outcome}"), give_up=give_up
        )
        self._stages.setdefault(stage, []).append(supervisor)
        tasks.create_task(supervisor.run(), name=f"supervise-{name}")
        return supervisor

    def _lines_of(self, name: str) -> Callable[[str], None]:
        return lambda line: self._log(name, line)

    async def _stop_processes(self) -> None:
        """Stop stage by stage. A stage that hangs delays the next one by STAGE_S only; return after STOP_S at most."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + STOP_S
        for _, stage in sorted(self._stages.items()):
            for supervisor in stage:
                supervisor.stop()
            await _wait_for_ends(stage, min(clock.time() + STAGE_S, deadline))
        await _wait_for_ends([supervisor for stage in self._stages.values() for supervisor in stage], deadline)


async def _wait_for_ends(supervisors: Sequence[Supervisor], deadline: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            for supervisor in supervisors:
                await supervisor.ended.wait()


def free_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0. Raises ConfigError if the port cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as probe:
            return int(probe.getsockname()[1])
    except OverflowError as error:
        raise ConfigError(f"Port {port} does not exist. Use 1 to 65535, or 0 for a free port.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"Port {port} of {host} is in use by another program: "
                "stop it, or choose another port with --port or --https-port."
            ) from error
        reason = (error.strerror or type(error).__name__).partition(" (")[0]  # Python appends the address
        raise ConfigError(f"Cannot listen on {host}:{port}: {reason}.") from error


@contextlib.contextmanager
def lock_data_folder(data: Path) -> Iterator[None]:
    """Lock the data folder for this stack. The lock ends with this process, even by SIGKILL. Raises ConfigError."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "lock").open("a")
    except OSError as error:
        raise ConfigError(f"The data folder {data} cannot be written: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"The data folder {data} is in use by another running stack: stop it, or give --data."
            ) from error
        yield
