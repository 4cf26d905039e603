"""The whole system on one machine: nats-server and the services as children, each restarted when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.stack.caddy import HTTPS_HOST, Caddy
from services.stack.health import broker_answers, poll_until, stack_is_healthy
from services.stack.nats_server import NatsServer
from services.stack.process import Process, ProcessGroup
from services.stack.supervisor import Supervisor
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.stack.supervisor import Startable

_LOOPBACK = "127.0.0.1"
STAGE_S = 1.0  # after this a stop goes on to the next stage, whoever is left of the last one
STOP_S = 4.0  # after this whoever is left is killed
# Those that compute step back for those that answer, and for what else a person runs. While eight objects are extracted
# on two cores, nine of ten health answers come within 11 ms instead of 19 (medians of five runs); 15 gains no more.
NICE = 5
_THEY_COMPUTE = frozenset({"a100worker", "segmentation", "imageutils"})

# glibc gives each thread an arena and keeps in it what a large picture once needed. With one arena the gateway stays at
# 115 MB after 1,000 submits (98 without numpy, 138 with many arenas), and extracting takes 80 page faults, not 5,000.
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(128 * 1024**2),
    "MALLOC_MMAP_THRESHOLD_": str(128 * 1024**2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user may choose."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: a free one
    data: Path = Path(".data")
    nats_url: str | None = None  # None: a nats-server of our own
    workers: int = 1
    https_port: int | None = None  # None: HTTP only; 0: a free one
    metrics: bool = False  # each service on a free port of its own


@dataclass(frozen=True, slots=True)
class Service:
    """A program of the stack; those of a lower stage are stopped first."""

    name: str
    argv: tuple[str, ...]
    stage: int


def all_services(workers: int) -> list[Service]:
    """Return the services of the system, the worker as often as asked for."""
    crew = ["a100worker"] if workers == 1 else [f"a100worker-{number}" for number in range(1, workers + 1)]
    return [
        _service("gateway", "gateway", 0),
        *(_service(name, "a100worker", 1) for name in crew),
        *(_service(name, name, 2) for name in ("segmentation", "imageutils", "jobmanager")),
    ]


def _service(name: str, module: str, stage: int) -> Service:
    step_back = ("nice", "-n", str(NICE)) if module in _THEY_COMPUTE else ()
    return Service(name, (*step_back, sys.executable, "-m", f"services.{module}"), stage)


class Stack:
    """nats-server and the services; `run` holds them up until `stop` is called."""

    def __init__(
        self,
        options: Options,
        programs: Sequence[Service],
        *,
        announce: Callable[[str], None],
        log: Callable[[str, str], None],
    ) -> None:
        """`announce` gets the lines that a script may wait for, `log` a program's name and a line of its output."""
        self._options = options
        self._programs = programs
        self._announce = announce
        self._log = log
        self._stages: dict[int, list[Supervisor]] = {}
        self._watching: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._failure: ConfigError | None = None

    def stop(self) -> None:
        """Make `run` take the stack down and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Hold the stack up until `stop`, then take it down within STOP_S.

        Raises ConfigError when the port or the data folder cannot be had, or when a program refuses its settings.
        """
        port = free_port(self._options.host, self._options.port)
        https = self._https(port)
        with lock_data_folder(self._options.data):
            async with ProcessGroup() as group, asyncio.TaskGroup() as tasks:
                guarding = tasks.create_task(group.keep_guard(), name="guard")
                starting = tasks.create_task(self._bring_up(group, tasks, port, https), name="bring-up")
                await self._stopping.wait()
                starting.cancel()
                await self._bring_down()
                for task in (guarding, *self._watching):
                    task.cancel()
                group.kill()
        if self._failure is not None:
            raise self._failure

    def _https(self, port: int) -> Caddy | None:
        if self._options.https_port is None:
            return None
        https_port = free_port(HTTPS_HOST, self._options.https_port)
        return Caddy(self._options.data, https_port, f"{self._options.host}:{port}")

    async def _bring_up(self, group: ProcessGroup, tasks: asyncio.TaskGroup, port: int, https: Caddy | None) -> None:
        url = self._options.nats_url or await self._start_broker(group, tasks)
        if not await broker_answers(url):
            self._log("stack", "waits for the broker")
            await poll_until(lambda: broker_answers(url))
        self._announce(f"broker {url}")
        environment = {
            **ALLOCATOR,
            "NATS_URL": url,
            "GATEWAY_HOST": self._options.host,
            "GATEWAY_PORT": str(port),
            "A100WORKER_DRAIN_S": str(STAGE_S),  # what takes longer is handed back while the broker is there
            "PYTHONUNBUFFERED": "1",
        }
        if https is not None:
            environment["GATEWAY_TRUSTED_PROXIES"] = self._options.host
            self._keep(tasks, "caddy", https.process(group, self._lines_of("caddy")), 1)
        probes = {each.name: free_port(_LOOPBACK, 0) for each in self._programs} if self._options.metrics else {}
        for service in self._programs:
            own = {"PROBE_PORT": str(probes[service.name])} if probes else {}
            lines = self._lines_of(service.name)
            program = Process(service.name, service.argv, group, env=environment | own, on_line=lines)
            self._keep(tasks, service.name, program, service.stage)
        await poll_until(lambda: stack_is_healthy(self._options.host, port))
        self._announce(f"ready http://{self._options.host}:{port}")
        if https is not None:
            await poll_until(https.serves)
            self._announce(f"ready {https.url}")
            self._announce(f"root certificate {https.root}")
        for name, probe in probes.items():
            self._announce(f"metrics {name} http://{_LOOPBACK}:{probe}/metrics")

    async def _start_broker(self, group: ProcessGroup, tasks: asyncio.TaskGroup) -> str:
        server = NatsServer(self._options.data / "nats", group=group, on_line=self._lines_of("nats"))
        last = max((service.stage for service in self._programs), default=0) + 1
        await self._keep(tasks, "nats", server, last).up.wait()
        self._watching.append(tasks.create_task(server.restart_after_full_disk(), name="reopen"))
        return server.url

    def _keep(self, tasks: asyncio.TaskGroup, name: str, program: Startable, stage: int) -> Supervisor:
        def give_up(why: str) -> None:
            self._failure = self._failure or ConfigError(f"{name} {why}")
            self.stop()

        keeper = Supervisor(program, report=lambda death: self._log("stack", f"{name} {death}"), give_up=give_up)
        self._stages.setdefault(stage, []).append(keeper)
        tasks.create_task(keeper.run(), name=f"keep-{name}")
        return keeper

    def _lines_of(self, name: str) -> Callable[[str], None]:
        return lambda line: self._log(name, line)

    async def _bring_down(self) -> None:
        """Stop stage by stage; a stage that hangs delays the next by STAGE_S only. What is left after STOP_S stays."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + STOP_S
        for _, stage in sorted(self._stages.items()):
            for keeper in stage:
                keeper.stop()
            await _ended(stage, min(clock.time() + STAGE_S, deadline))
        await _ended([keeper for stage in self._stages.values() for keeper in stage], deadline)


async def _ended(keepers: Sequence[Supervisor], deadline: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            for keeper in keepers:
                await keeper.ended.wait()


def free_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0. Raises ConfigError when nobody can listen on it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as probe:
            return int(probe.getsockname()[1])
    except OverflowError as error:
        raise ConfigError(f"There is no port {port}; ports are 1 to 65535, 0 is a free one.") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"Port {port} of {host} is in use.") from error
        reason = (error.strerror or type(error).__name__).partition(" (")[0]  # Python adds what was tried
        raise ConfigError(f"Cannot listen on {host}:{port}: {reason}.") from error


@contextlib.contextmanager
def lock_data_folder(data: Path) -> Iterator[None]:
    """Hold the data folder for one stack; the lock goes with this process, however it ends. Raises ConfigError."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "lock").open("a")
    except OSError as error:
        raise ConfigError(f"The data folder {data} cannot be written: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"The data folder {data} is in use by another running stack.") from error
        yield
