"""Build the images and run the container tests: `python -m tests.containers.driver`; `--only-build` runs no tests.

The tests run in namespaces of their own, for mounts, network and processes: ports 80 and 443 are free there, all
remains are removed with them, and nothing is visible from outside. Arguments go to pytest.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from tests.containers.engine import ROOT, WORK, Engine
from tests.containers.images import APT_SOURCES, build_all

PACKAGES = {  # of Debian, each with a file by which it is known to be there
    "podman": "/usr/bin/podman",
    "buildah": "/usr/bin/buildah",
    "runc": "/usr/sbin/runc",
    "netavark": "/usr/lib/podman/netavark",
    "aardvark-dns": "/usr/lib/podman/aardvark-dns",
    "catatonit": "/usr/bin/catatonit",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "busybox-static": "/bin/busybox",
    "iptables": "/usr/sbin/iptables",
    "iproute2": "/bin/ip",
}
_ONLY_BUILD = "--only-build"
_NAMESPACES = ("--mount", "--propagation=private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


def obstacle() -> str | None:
    """Why containers cannot be tested here, in a sentence."""
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    if "VERSION_CODENAME=bookworm" not in release or not APT_SOURCES.exists():
        return "The stand-in for the base image is made from Debian 12, which this is not."
    if os.geteuid() != 0:
        return "Only root may make the namespaces that containers live in."
    return None


def install() -> None:
    """Install the packages that are missing."""
    missing = [name for name, file in PACKAGES.items() if not Path(file).exists()]
    if missing:
        say(f"Installing {' '.join(missing)}")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
        subprocess.run([*apt, "update"], env=quiet, check=True)
        command = [*apt, "install", "--yes", "--no-install-recommends", *missing]
        subprocess.run(command, env=quiet, check=True, stdout=subprocess.DEVNULL)


def claim() -> None:
    """Hold the folder until the tests have ended; a second run waits."""
    WORK.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(WORK / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.fcntl(lock, fcntl.F_SETFD, 0)  # it stays locked through the exec
    fcntl.flock(lock, fcntl.LOCK_EX)


def say(sentence: str) -> None:
    """Print the progress for a waiting user."""
    print(sentence, flush=True)  # noqa: T201


def become(command: list[str], **variables: str) -> NoReturn:
    """Replace this process by another program."""
    os.execvpe(command[0], command, {**os.environ, **variables})  # noqa: S606 (no shell is wanted)


def build() -> None:
    """Build the images that have changed since the last build."""
    engine = Engine()
    engine.configure()
    engine.clear()
    began = time.monotonic()
    say("Building the images, three minutes the first time")
    build_all(engine)
    say(f"Built in {time.monotonic() - began:.0f} s")


def main(arguments: list[str]) -> None:
    """Prepare, then become pytest."""
    tests = [sys.executable, "-m", "pytest", "tests/containers", *arguments]
    os.chdir(ROOT)
    if (why_not := obstacle()) is not None:
        if os.environ.get("CI"):
            sys.exit(why_not)
        if _ONLY_BUILD in arguments:
            sys.exit(0)
        become(tests, CONTAINERS_OBSTACLE=why_not)
    install()
    claim()
    build()
    if _ONLY_BUILD in arguments:
        return
    # The names that Podman's DNS server knows are on a disk of their own: those of an earlier run would lead nowhere.
    # Whatever loses its parent becomes a child of catatonit, not of pytest, and is not left as a zombie.
    names = "mkdir -p /run/containers && mount -t tmpfs names /run/containers"
    inside = ("sh", "-c", f'ip link set lo up && {names} && exec catatonit -- "$@"', "sh")
    become(["unshare", *_NAMESPACES, *inside, *tests], CONTAINERS_INSIDE="1")


if __name__ == "__main__":
    main(sys.argv[1:])
