"""Run compose.yaml by Docker Compose on Podman's socket, and inspect its containers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.containers.engine import ROOT
from tests.waiting import SELDOM_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.containers.engine import Engine

COMPOSE = Path(sys.executable).parent / "docker-compose"
_LOOK_EVERY_S, _LOOK_AGAIN_EVERY = 1.0, 5
_START_S = 25.0  # less than any start_period; failed probes do not count in that time


@dataclass(frozen=True)
class Container:
    """One container, as it is now."""

    name: str
    pid: int
    running: bool
    healthy: bool
    exit_code: int


class Project:
    """The services of compose.yaml."""

    def __init__(self, engine: Engine, variables: dict[str, str]) -> None:
        """`variables` are those that compose.yaml reads."""
        self.engine = engine
        self._variables = variables

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which Docker Compose finds the engine, and compose.yaml its variables."""
        return {**self.engine.environment, "DOCKER_HOST": f"unix://{self.engine.socket}", **self._variables}

    def extend(self, variables: dict[str, str]) -> Project:
        """Return the same project with more variables, e.g. COMPOSE_FILE."""
        return Project(self.engine, self._variables | variables)

    def compose(self, *arguments: str, timeout_s: float = 180, **variables: str) -> str:
        """Run Docker Compose; variables are those that compose.yaml reads. Fails with its last words and the logs."""
        ended = self.attempt(*arguments, timeout_s=timeout_s, **variables)
        if ended.returncode != 0:
            logs = self.attempt("logs", "--tail", "15").stdout
            raise RuntimeError(f"docker compose {arguments[0]} failed: {ended.stderr[-2000:]}\n{logs[-6000:]}")
        return ended.stdout

    def attempt(self, *arguments: str, timeout_s: float = 180, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Docker Compose, whatever comes of it."""
        return subprocess.run(
            [COMPOSE, *arguments],
            cwd=ROOT,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def up(self, *arguments: str, **variables: str) -> None:
        """Start the services that do not run."""
        self.compose("up", "--detach", "--no-build", *arguments, timeout_s=180, **variables)

    def containers(self, service: str = "") -> list[Container]:
        """Return the containers of a service, or all."""
        with _api(self.engine) as api:
            found = api.get("/containers/json", params={"all": True}).raise_for_status().json()
        containers = [_container(entry) for entry in found]
        wanted = [each for each in containers if not service or each.name.startswith(f"artmancer-{service}-")]
        return sorted(wanted, key=lambda each: each.name)

    def container(self, name: str) -> Container:
        """One container by its name."""
        (found,) = [each for each in self.containers() if each.name == name]
        return found

    def ill(self) -> list[str]:
        """Which containers do not run as they should."""
        return [each.name for each in self.containers() if not (each.healthy if each.running else each.exit_code == 0)]

    async def wait_until_healthy(self, timeout_s: float = 120) -> None:
        """Wait until all containers are healthy or have ended well; fails with the logs of those that are not."""
        try:
            await wait_until(lambda: not self.ill(), "all containers are healthy", timeout_s, look_every_s=SELDOM_S)
        except AssertionError as error:
            logs = (f"{name}: {self.logs(name)[-2000:]}" for name in self.ill())
            raise AssertionError("\n".join([str(error), *logs])) from None

    def logs(self, name: str) -> str:
        """Return a container's log."""
        ended = self.engine.attempt("logs", name)
        return ended.stdout + ended.stderr

    def ready(self, name: str) -> bool:
        """Whether a container would take work now, by the probe of its own image."""
        return self.engine.attempt("exec", name, "python", "-m", "shared.probes").returncode == 0


def _api(engine: Engine) -> httpx.Client:
    """Return a client of Podman's own API; an answer costs a hundredth of a start of its command."""
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=str(engine.socket)), base_url="http://podman/v4.0.0/libpod", timeout=10
    )


def _container(entry: dict[str, Any]) -> Container:
    return Container(
        name=entry["Names"][0],
        pid=entry["Pid"],
        running=entry["State"] == "running",
        healthy=entry["Status"] == "healthy",
        exit_code=entry["ExitCode"],
    )


@contextmanager
def health_checked(engine: Engine) -> Iterator[None]:
    """Run the containers' health checks while the block runs: Podman leaves that to systemd, which may not be there."""
    ended = threading.Event()
    watch = threading.Thread(target=_check_until, args=(engine, ended), name="health-checks")
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _check_until(engine: Engine, ended: threading.Event) -> None:
    """Poll often while a container starts, and seldom afterwards. A third failure ends the wait."""
    rounds = 0
    with _api(engine) as api:
        while not ended.wait(_LOOK_EVERY_S):
            rounds += 1
            try:
                for container in api.get("/containers/json").json():
                    starts = container["Status"] != "healthy" and time.time() - container["StartedAt"] < _START_S
                    if starts or rounds % _LOOK_AGAIN_EVERY == 0:
                        api.get(f"/containers/{container['Id']}/healthcheck")
            except (httpx.HTTPError, ValueError):
                continue  # the engine starts or stops; the next round sees
