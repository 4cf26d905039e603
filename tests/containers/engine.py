"""An engine for container images on a machine that has none: Podman in a folder of its own, which serves Docker's API.

The machine's own containers, networks and firewall are not touched: images and volumes are in the folder, and whatever
runs does so in namespaces that end with the tests (see driver.py).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
WORK = Path(os.environ.get("CONTAINERS_WORK", "/var/tmp/artmancer-containers"))  # noqa: S108 (a cache, owned by root)
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_FILES = {
    "storage.conf": """\
[storage]
driver = "overlay"
runroot = "{work}/run"
graphroot = "{work}/storage"
""",
    "registries.conf": """\
unqualified-search-registries = ["docker.io"]
short-name-mode = "permissive"
""",
    # runc, because crun refuses a machine that mounts both kinds of cgroups; no ulimits, because raising them takes a
    # capability that root has not everywhere.
    "containers.conf": """\
[containers]
log_driver = "k8s-file"
default_ulimits = []
pids_limit = 0
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "{work}/networks"
""",
    "pip.conf": """\
[global]
cert = {certificates}
timeout = 180
disable-pip-version-check = true
""",
}


class Engine:
    """Runs the podman command on the folder."""

    def __init__(self, work: Path = WORK) -> None:
        self.work = work
        self.environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(work / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(work / "registries.conf"),
            "CONTAINERS_CONF": str(work / "containers.conf"),
            "TMPDIR": str(work / "tmp"),
            "BUILDAH_FORMAT": "docker",  # the other one knows no HEALTHCHECK
        }

    @property
    def socket(self) -> Path:
        """Where it serves Docker's API."""
        return self.work / "podman.sock"

    def configure(self) -> None:
        """Write the configuration of podman and pip."""
        (self.work / "tmp").mkdir(parents=True, exist_ok=True)
        for name, text in _FILES.items():
            (self.work / name).write_text(text.format(work=self.work, certificates=CERTIFICATES))

    def attempt(self, *arguments: str | Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run podman, whatever comes of it."""
        return subprocess.run(
            ["podman", *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def podman(self, *arguments: str | Path, timeout_s: float = 120) -> str:
        """Run podman and return its output. Raises an error with the last lines of the output."""
        ended = self.attempt(*arguments, timeout_s=timeout_s)
        if ended.returncode != 0:
            raise RuntimeError(f"podman {arguments[0]} ended with {ended.returncode}: {ended.stderr.strip()[-2000:]}")
        return ended.stdout.strip()

    def has_image(self, name: str) -> bool:
        """Whether the image is in the folder."""
        return self.attempt("image", "exists", name).returncode == 0

    def clear(self) -> None:
        """Remove the containers and volumes of earlier runs; the images stay."""
        self.attempt("rm", "--all", "--force", "--time", "0")
        # The containers of a build that was interrupted; Podman does not count them as its own.
        subprocess.run(["buildah", "rm", "--all"], env=self.environment, capture_output=True, check=False)
        self.attempt("network", "prune", "--force")
        self.attempt("volume", "prune", "--force")

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Docker's API on the socket while the block runs."""
        self.socket.unlink(missing_ok=True)
        address = f"unix://{self.socket}"
        with (self.work / "service.log").open("wb") as log:
            command = ["podman", "system", "service", "--time=0", address]
            service = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
            try:
                asyncio.run(wait_until(self.socket.exists, "Podman serves Docker's API", timeout_s=60))
                yield
            finally:
                service.terminate()
                service.wait()
