"""The launcher with small scripts in place of the services: start, restart, and a stop that leaves no process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from services.stack.health import broker_answers
from services.stack.stack import Options, Service, Stack, lock_data_folder
from shared.errors import ConfigError
from tests.keys import Keys, run_locked
from tests.ports import free_port
from tests.waiting import gone, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

HEALTHY_GATEWAY = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/system/health" else 404)
        self.end_headers()
        self.wfile.write(b'{"status": "healthy"}')
    def log_message(self, *_): pass
http.server.HTTPServer((os.environ["GATEWAY_HOST"], int(os.environ["GATEWAY_PORT"])), Handler).serve_forever()
"""
PRINTS_ADDRESS = "import os, signal; print('here', os.getpid(), os.environ['NATS_URL']); signal.pause()"
PRINTS_BYE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("bye")))
print("here")
signal.pause()
"""
IGNORES_SIGTERM = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("here", grandchild.pid)
while True: signal.pause()
"""
HANGS_AFTER = """
import asyncio, pathlib, sys
from services.stack.stack import Options, Stack, Service
child = Service("child", (sys.executable, "-c", "import signal; print('here'); signal.pause()"), 0)
options = Options(port=0, data=pathlib.Path(sys.argv[1]))
asyncio.run(Stack(options, [child], announce=print, log=lambda name, line: print(name, line, flush=True)).run())
"""


class Run:
    """A running stack and all lines that it has printed."""

    def __init__(self, data: Path, services: list[Service]) -> None:
        self.announced: list[str] = []
        self.lines: list[str] = []
        self.stack = Stack(
            Options(port=0, data=data),
            services,
            announce=self.announced.append,
            log=lambda name, line: self.lines.append(f"{name}: {line}"),
        )

    async def wait_for_line(self, start: str, times: int = 1) -> str:
        """Wait until a line with this start was printed `times` times. Return the last of them."""
        await wait_until(lambda: len(self._all(start)) >= times, f"the stack has printed {start!r} {times} times")
        return self._all(start)[times - 1]

    def _all(self, start: str) -> list[str]:
        return [line for line in self.announced + self.lines if line.startswith(start)]


@asynccontextmanager
async def running(data: Path, *services: Service) -> AsyncIterator[Run]:
    run = Run(data, list(services))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run.stack.run(), name="stack")
        try:
            yield run
        finally:
            run.stack.stop()


def service(name: str, source: str, stage: int = 0) -> Service:
    return Service(name, (sys.executable, "-u", "-c", source), stage)


async def test_it_announces_the_broker_and_then_the_gateway(tmp_path: Path) -> None:
    """Both lines appear in this order, and the broker answers at its address."""
    async with running(tmp_path, service("gateway", HEALTHY_GATEWAY)) as run:
        await run.wait_for_line("ready http://127.0.0.1:")
        broker, ready = run.announced

        await wait_until(lambda: broker_answers(broker.removeprefix("broker ")), "nats-server answers")
        assert ready.startswith("ready ")


async def test_a_dead_process_is_restarted(tmp_path: Path) -> None:
    """The new process gets the same broker."""
    async with running(tmp_path, service("worker", PRINTS_ADDRESS)) as run:
        *_, pid, url = (await run.wait_for_line("worker: here")).split()
        psutil.Process(int(pid)).kill()
        *_, next_pid, next_url = (await run.wait_for_line("worker: here", times=2)).split()

        assert next_pid != pid
        assert next_url == url
        assert "stack: worker ended with code -9; restarting in 0.2 s" in run.lines


async def test_the_pause_before_a_restart_doubles(tmp_path: Path) -> None:
    """A broken service must not occupy the machine."""
    async with running(tmp_path, service("worker", "raise SystemExit(1)")) as run:
        await run.wait_for_line("stack: worker ended", times=3)

        pauses = [line.rpartition("restarting in ")[2] for line in run.lines if line.startswith("stack: worker ")]
        assert pauses[:3] == ["0.2 s", "0.4 s", "0.8 s"]


async def test_a_dead_nats_server_is_restarted_on_its_port(
    tmp_path: Path, new_children: Callable[[], list[psutil.Process]]
) -> None:
    """No service has to be restarted."""
    async with running(tmp_path, service("worker", PRINTS_ADDRESS)) as run:
        url = (await run.wait_for_line("worker: here")).split()[-1]
        next(child for child in new_children() if child.name() == "nats-server").kill()
        await run.wait_for_line("stack: nats ended")
        await wait_until(lambda: broker_answers(url), "nats-server answers again")

        assert len([line for line in run.lines if line.startswith("worker: here")]) == 1


async def test_processes_stop_stage_by_stage(tmp_path: Path) -> None:
    """The gateway stops before the worker, and the worker before the services it reports to."""
    stages = [service(name, PRINTS_BYE, stage) for stage, name in enumerate(["gateway", "worker", "manager"])]
    async with running(tmp_path, *reversed(stages)) as run:
        for name in ("gateway", "worker", "manager"):
            await run.wait_for_line(f"{name}: here")

    assert [line for line in run.lines if "bye" in line] == ["gateway: bye", "worker: bye", "manager: bye"]


async def test_a_process_that_does_not_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    """A process that ignores SIGTERM neither blocks the stack nor leaves children."""
    async with running(tmp_path, service("stubborn", IGNORES_SIGTERM)) as run:
        grandchild = int((await run.wait_for_line("stubborn: here")).split()[-1])

    await wait_until(lambda: gone(grandchild), "the grandchild is gone")


async def test_a_wrong_setting_ends_the_stack(tmp_path: Path) -> None:
    """After exit code 78 of a service a restart cannot help."""
    run = Run(tmp_path, [service("worker", "raise SystemExit(78)")])

    with pytest.raises(ConfigError, match="worker ended because a setting is wrong"):
        await run.stack.run()

    assert not [line for line in run.lines if "restarting" in line]


async def test_nothing_outlives_a_killed_launcher(tmp_path: Path) -> None:
    """SIGKILL leaves no child, even after the first guard was killed."""
    launcher = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", HANGS_AFTER, str(tmp_path), stdout=subprocess.PIPE
    )
    family = psutil.Process(launcher.pid)
    assert launcher.stdout is not None
    while await launcher.stdout.readline() != b"child here\n":
        pass
    (guard,) = [child for child in family.children() if child.name() == "sh"]
    guard.kill()
    children: list[psutil.Process] = []

    def has_new_guard() -> bool:
        # One listing: between two of them the first guard, a zombie until then, could leave the count of three.
        children[:] = family.children()
        return len(children) == 3 and guard not in children

    await wait_until(has_new_guard, "there is another guard")

    launcher.send_signal(signal.SIGKILL)
    await launcher.communicate()

    await wait_until(lambda: all(gone(child.pid) for child in children), "all children are gone")


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "services", *arguments], capture_output=True, text=True, check=False)


def test_a_port_in_use_is_one_sentence(tmp_path: Path, nats_url: str) -> None:
    """Exit code 78 and a sentence that names the port."""
    port = nats_url.rpartition(":")[2]
    ended = launch("--data", str(tmp_path / "data"), "--port", port)

    assert ended.returncode == 78
    assert ended.stderr == (
        f"Port {port} of 127.0.0.1 is in use by another program: "
        "stop it, or choose another port with --port or --https-port.\n"
    )


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_an_impossible_port_is_one_sentence(tmp_path: Path, port: str) -> None:
    """Without a traceback."""
    ended = launch("--data", str(tmp_path / "data"), "--port", port)

    assert ended.returncode == 78
    assert ended.stderr == f"Port {port} does not exist. Use 1 to 65535, or 0 for a free port.\n"


def test_an_impossible_address_is_one_sentence(tmp_path: Path) -> None:
    """The reason comes without the text that Python appends."""
    ended = launch("--data", str(tmp_path / "data"), "--host", "192.0.2.1", "--port", "0")

    assert ended.returncode == 78
    assert ended.stderr == "Cannot listen on 192.0.2.1:0: Cannot assign requested address.\n"


def test_an_impossible_broker_url_is_refused(tmp_path: Path) -> None:
    """Such a broker would never answer."""
    ended = launch("--data", str(tmp_path / "data"), "--port", "0", "--no-nats", "--nats-url", "nats://broker:nats")

    assert ended.returncode == 2
    assert "--nats-url is not valid: It must be nats://host:port" in ended.stderr


async def test_waiting_for_the_broker_is_logged(tmp_path: Path) -> None:
    """A silent launcher would seem to hang."""
    run = Run(tmp_path, [])
    options = Options(port=0, data=tmp_path, nats_url=f"nats://127.0.0.1:{free_port()}")
    run.stack = Stack(options, [], announce=run.announced.append, log=lambda *words: run.lines.append(": ".join(words)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run.stack.run(), name="stack")
        await run.wait_for_line("stack: waiting for the broker")
        run.stack.stop()

    assert not run.announced


async def test_a_broker_behind_tls_is_found(tmp_path: Path) -> None:
    """It greets only after a handshake, for which only the services have a certificate."""
    keys = Keys.made(tmp_path / "keys")
    async with run_locked(keys, tmp_path / "store") as node:
        assert await broker_answers(node.url)


def test_an_unusable_data_folder_is_one_sentence(tmp_path: Path) -> None:
    """Exit code 78 and a sentence that names the folder."""
    (tmp_path / "file").touch()
    ended = launch("--data", str(tmp_path / "file" / "data"), "--port", "0")

    assert ended.returncode == 78
    assert ended.stderr == f"The data folder {tmp_path}/file/data cannot be written: Not a directory.\n"


def test_a_data_folder_belongs_to_one_stack(tmp_path: Path) -> None:
    """A second stack on the same folder would corrupt the streams of the first one."""
    with lock_data_folder(tmp_path):
        ended = launch("--data", str(tmp_path), "--port", "0")

    assert ended.returncode == 78
    assert ended.stderr == f"The data folder {tmp_path} is in use by another running stack: stop it, or give --data.\n"
