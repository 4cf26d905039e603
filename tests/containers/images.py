"""The images: built from the project's own Dockerfile, on stand-ins for the four that come from elsewhere.

A stand-in has the name, the release and the programs of the original, not its content: Debian's own Python 3.11 in
place of the official image's, the servers out of their Python wheels, and a `go` that installs the `nats` command of
`make tools`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.containers.engine import CERTIFICATES, ROOT

if TYPE_CHECKING:
    from tests.containers.engine import Engine

BIN = Path(sys.executable).parent
PYTHON = "docker.io/library/python:3.11-slim-bookworm"
APT_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
GO = "docker.io/library/golang:1.26-bookworm"
NATS = ROOT / ".tools/bin/nats"
_GO = """\
FROM scratch
COPY busybox /bin/busybox
COPY busybox /bin/sh
COPY nats /nats
COPY --chmod=755 go /usr/local/bin/go
ENV PATH=/usr/local/bin:/usr/bin:/bin
"""
_INSTALL = "#!/bin/sh\n/bin/busybox mkdir -p /go/bin && exec /bin/busybox cp /nats /go/bin/nats\n"
_UNUSED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
# As in the official image: `python` and `pip` in /usr/local/bin, free to install, without this machine's sources.
_LIKE_THE_OFFICIAL_ONE = (
    'rm -f "$1"/usr/lib/python3.11/EXTERNALLY-MANAGED "$1"/etc/resolv.conf "$1"/etc/apt/sources.list.d/*; '
    'ln -s /usr/bin/python3 "$1"/usr/local/bin/python; ln -s /usr/bin/pip3 "$1"/usr/local/bin/pip'
)
_SERVER = """\
FROM scratch
COPY busybox /bin/busybox
COPY busybox /bin/sh
COPY busybox /usr/bin/nc
COPY busybox /usr/bin/wget
COPY {program} {home}/{program}
ENV PATH={home}:/usr/bin:/bin XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
{start}
"""
_SERVERS = {
    "docker.io/library/nats:2.15-alpine": ("nats-server", "/usr/local/bin", 'ENTRYPOINT ["nats-server"]'),
    "docker.io/library/caddy:2.11-alpine": (
        "caddy",
        "/usr/bin",
        'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]',
    ),
}


def build_all(engine: Engine) -> None:
    """Build every image. An unchanged image costs a second or two."""
    _import_python(engine)
    for name, (program, home, start) in _SERVERS.items():
        _build_server(engine, name, program, _SERVER.format(program=program, home=home, start=start))
    if NATS.exists():
        _build_go(engine)
    for name, service in compose_services().items():
        if "build" in service and (name != "tools" or NATS.exists()):
            _build(engine, service["image"], service["build"])
    # Layers of former builds are the cache of the next one; older than a day they are only in the way.
    engine.attempt("image", "prune", "--force", "--filter", "until=24h")


def compose_services() -> dict[str, dict[str, Any]]:
    """Return the services of compose.yaml without GPUs, as Compose reads them."""
    command: list[str | Path] = [
        *(BIN / "docker-compose", "--profile", "cpu", "--profile", "tools"),
        *("config", "--format", "json"),
    ]
    read = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    services: dict[str, dict[str, Any]] = json.loads(read.stdout)["services"]
    return services


def _import_python(engine: Engine) -> None:
    if engine.has_image(PYTHON):
        return
    archive = engine.work / "python.tar"
    options = [f"--dpkgopt=path-exclude={path}" for path in _UNUSED]
    options += ['--aptopt=Apt::Install-Recommends "false"', f"--customize-hook={_LIKE_THE_OFFICIAL_ONE}"]
    command = ["mmdebstrap", "--quiet", "--variant=apt", "--include=ca-certificates,python3,python3-pip,python3-venv"]
    subprocess.run([*command, *options, "bookworm", archive, APT_SOURCES], check=True, capture_output=True)
    changes = ("ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "ENV LANG=C.UTF-8")
    engine.podman("import", *(f"--change={change}" for change in changes), archive, PYTHON)
    archive.unlink()


def _build_server(engine: Engine, name: str, program: str, dockerfile: str) -> None:
    context = engine.work / program
    context.mkdir(exist_ok=True)
    for source in (Path("/bin/busybox"), BIN / program):
        shutil.copy(source, context)
    (context / "Dockerfile").write_text(dockerfile)
    engine.podman("build", "--pull=never", "--tag", name, context)


def _build_go(engine: Engine) -> None:
    context = engine.work / "go"
    context.mkdir(exist_ok=True)
    for source in (Path("/bin/busybox"), NATS):
        shutil.copy(source, context)
    (context / "go").write_text(_INSTALL)
    (context / "Dockerfile").write_text(_GO)
    engine.podman("build", "--pull=never", "--tag", GO, context)


def _build(engine: Engine, name: str, build: dict[str, str]) -> None:
    """Build as Docker would, but for the network of this machine and its certificates; neither stays in the image."""
    target = ("--target", build["target"]) if "target" in build else ()
    mounts = (f"{CERTIFICATES}:{CERTIFICATES}:ro", f"{engine.work}/pip.conf:/etc/pip.conf:ro")
    engine.podman(
        *("build", "--pull=never", "--layers", "--network=host", *(f"--volume={mount}" for mount in mounts)),
        *("--tag", name, "--file", build["dockerfile"], *target, build["context"]),
        timeout_s=900,
    )
