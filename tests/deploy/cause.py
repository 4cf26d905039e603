"""Causes alerts on running processes: `python -m tests.deploy.cause --prometheus /usr/bin/prometheus`.

The services run as processes at a broker that requires keys, beside a Prometheus with the rules of
deploy/observability, in a copy with every `for` cut to five seconds. Prints when each alert fires.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import re
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from deploy.certificates import begin_certificate
from deploy.credentials import BROKER
from services.stack.process import ROOT, Process, ProcessGroup
from shared import subjects
from shared.messages import JobSubmit, Task
from shared.object_buckets import ObjectBuckets, digest
from tests.chaos.faults.engine import THROW
from tests.keys import HOST, Keys, connect, run_locked
from tests.ports import free_ports
from tests.upgrade.visitors import SIDE, mask, photo
from tests.waiting import frozen, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from shared.bus import Bus
    from tests.keys import Node

NAMES = ("jobmanager", "gateway", "imageutils", "segmentation", "a100worker")
PICTURE_BYTES = 256 * 1024**2
_SCRAPE = "2s"
_TIMEOUT_S = 180.0
_FREEZE_S = 5.0  # longer than the threshold of slow masks
_FREEZES, _MASKS = 3, 8


@dataclass
class Scene:
    """The running parts, as the causes need them."""

    http: httpx.AsyncClient
    bus: Bus
    gateway: str
    prometheus: str
    processes: dict[str, Process] = field(default_factory=dict)

    async def firing(self) -> dict[str, str]:
        """Return the summaries of the alerts that fire now, by name."""
        answer = (await self.http.get(f"{self.prometheus}/api/v1/alerts")).raise_for_status().json()
        alerts: list[dict[str, Any]] = answer["data"]["alerts"]
        return {
            each["labels"]["alertname"]: each["annotations"]["summary"] for each in alerts if each["state"] == "firing"
        }

    async def scraped(self, name: str) -> bool:
        """Return whether Prometheus reads the metrics of a service."""
        query = {"query": f'up{{service="{name}"}} == 1'}
        answer = (await self.http.get(f"{self.prometheus}/api/v1/query", params=query)).raise_for_status().json()
        return bool(answer["data"]["result"])

    async def upload(self, data: bytes) -> str:
        """Upload a picture and return its name."""
        answer = (await self.http.post(f"{self.gateway}/v1/images", content=data)).raise_for_status()
        return str(answer.json()["sha256"])

    async def submit(self, **changes: Any) -> None:
        """Submit a removal of a new photo through the gateway."""
        dice = random.Random()  # noqa: S311 (a picture)
        body = {"task": "removal", "image": await self.upload(photo(dice)), "mask": await self.upload(mask())}
        (await self.http.post(f"{self.gateway}/v1/jobs", json=body | changes)).raise_for_status()


async def certificate_ends(scene: Scene) -> None:
    """Do nothing more: the broker has had a certificate of three days since its start."""
    del scene


async def batch_waits(scene: Scene) -> None:
    """Submit a batch job of two hours ago by hand, while no worker runs."""
    image = await scene.upload(photo(random.Random(1)))  # noqa: S311 (a picture)
    order = JobSubmit(task=Task.WHITE_BALANCE, image=image, submitted_at=time.time() - 7200)
    await scene.bus.publish(subjects.submission("batch", "local", "old"), order)


async def store_full(scene: Scene) -> None:
    """Fill 85 % of the room for results by hand."""
    buckets, filled = ObjectBuckets(scene.bus), 0
    while filled < 0.85 * PICTURE_BYTES / 4:
        data = random.randbytes(2 * 1024**2)  # noqa: S311 (no secret)
        name = await digest(data)
        await buckets.write("results", name, data, name, {})
        filled += len(data)


async def start_worker(scene: Scene) -> None:
    """Start the worker, unless it runs, and wait until its counters were read at zero."""
    if scene.processes["a100worker"].pid is None:
        await scene.processes["a100worker"].start()
        await wait_until(lambda: scene.scraped("a100worker"), "the worker was scraped")


async def jobs_fail(scene: Scene) -> None:
    """Submit jobs on which the engine raises; each is tried three times and becomes a dead letter."""
    await start_worker(scene)
    for _ in range(3):
        await scene.submit(prompt=THROW)


async def masks_slow(scene: Scene) -> None:
    """Let segmentation stand still while masks are under way, as on a machine that swaps."""
    pid = scene.processes["segmentation"].pid
    assert pid is not None
    for _ in range(_FREEZES):
        images = [await scene.upload(photo(random.Random())) for _ in range(_MASKS)]  # noqa: S311 (pictures)
        bodies = [{"image": image, "points": [[SIDE // 2, SIDE // 2, 1]]} for image in images]
        asking = {
            asyncio.create_task(scene.http.post(f"{scene.gateway}/v1/masks", json=body), name="mask") for body in bodies
        }
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        async with frozen(pid):
            await asyncio.wait(asking, timeout=_FREEZE_S)
        for answer in await asyncio.gather(*asking):
            answer.raise_for_status()


async def worker_lost(scene: Scene) -> None:
    """Kill the worker."""
    await start_worker(scene)
    scene.processes["a100worker"].kill()
    await scene.processes["a100worker"].wait()


CAUSES: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "ArtMancerCertificateEnds": certificate_ends,
    "ArtMancerBatchWaits": batch_waits,
    "ArtMancerStoreFull": store_full,
    "ArtMancerMasksSlow": masks_slow,
    "ArtMancerJobsFail": jobs_fail,
    "ArtMancerDeadLetters": jobs_fail,
    "ArtMancerWorkerLost": worker_lost,
}


async def main(prometheus: Path, chosen: list[str]) -> int:
    """Cause each alert; return 1 if one did not fire."""
    silent = []
    with tempfile.TemporaryDirectory(prefix="alerts-") as name:
        async with stage(Path(name), prometheus) as scene:
            for alert, cause in ((alert, CAUSES[alert]) for alert in chosen):
                await cause(scene)
                began = time.monotonic()
                try:
                    await wait_until(lambda alert=alert: fires(scene, alert), f"{alert} fires", _TIMEOUT_S)  # type: ignore[misc]
                except AssertionError as late:
                    silent.append(alert)
                    print(late, flush=True)  # noqa: T201
                else:
                    summary = (await scene.firing())[alert]
                    print(f"{alert} fires after {time.monotonic() - began:.0f} s: {summary}", flush=True)  # noqa: T201
    return 1 if silent else 0


async def fires(scene: Scene, alert: str) -> bool:
    """Return whether the alert fires now."""
    return alert in await scene.firing()


@asynccontextmanager
async def stage(folder: Path, prometheus: Path) -> AsyncIterator[Scene]:
    """Run the broker, the services but for the worker, and Prometheus."""
    keys = Keys.made(folder / "keys")
    shorten_certificate(keys, timedelta(days=3))
    ports = dict(zip((*NAMES, "http", "prometheus"), free_ports(len(NAMES) + 2), strict=True))
    async with (
        run_locked(keys, folder / "store") as node,
        connect(keys, node, "operator") as bus,
        httpx.AsyncClient(trust_env=False, timeout=60) as http,
        ProcessGroup() as group,
    ):
        gateway, address = (f"http://{HOST}:{ports[name]}" for name in ("http", "prometheus"))
        scene = Scene(http, bus, gateway, address)
        scene.processes = {name: service(name, group, variables(keys, node, ports, name)) for name in NAMES}
        try:
            for name in NAMES[:-1]:
                await scene.processes[name].start()
            argv = configure(folder, ports)
            await Process("prometheus", [str(prometheus), *argv], group, on_line=lambda _: None).start()
            await wait_until(lambda: is_quiet(scene), "only the worker is missing and Prometheus has read all")
            yield scene
        finally:
            group.kill()


async def is_quiet(scene: Scene) -> bool:
    """Return whether all services are scraped and healthy."""
    try:
        health = (await scene.http.get(f"{scene.gateway}/v1/health")).json()["services"]
        scraped = [await scene.scraped(name) for name in NAMES[:-1]]
    except httpx.HTTPError:
        return False
    healthy = sum(each["status"] == "healthy" for each in health.values())
    return healthy == len(NAMES) - 2 and all(scraped)


def service(name: str, group: ProcessGroup, environment: dict[str, str]) -> Process:
    """Return the process of a service."""
    return Process(name, [sys.executable, "-m", f"services.{name}"], group, env=environment, on_line=lambda _: None)


def variables(keys: Keys, node: Node, ports: dict[str, int], name: str) -> dict[str, str]:
    """Return the environment of a service."""
    return {
        **keys.variables(node.url, name),
        "GATEWAY_PORT": str(ports["http"]),
        "JOBMANAGER_WEBHOOKS_NKEY_FILE": str(keys.folder / "webhooks" / "nats.nk"),
        "A100WORKER_BACKEND": "tests.chaos.faults.engine:Hostile",
        "A100WORKER_RETRY_DELAY_S": "0.2",
        "SEGMENTATION_BACKENDS": "grabcut",
        "STREAMS_PICTURE_BYTES": str(PICTURE_BYTES),
        "PROBE_HOST": HOST,
        "PROBE_PORT": str(ports[name]),
        "LOG_LEVEL": "ERROR",
    }


def configure(folder: Path, ports: dict[str, int]) -> list[str]:
    """Write the configuration of Prometheus and return its arguments."""
    rules = (ROOT / "deploy/observability/alerts.yaml").read_text()
    (folder / "alerts.yaml").write_text(re.sub(r"for: \w+", "for: 5s", rules))
    targets = [{"targets": [f"{HOST}:{ports[name]}"], "labels": {"service": name}} for name in NAMES]
    (folder / "targets.json").write_text(json.dumps(targets))
    configuration = {
        "global": {"scrape_interval": _SCRAPE, "evaluation_interval": _SCRAPE},
        "rule_files": [str(folder / "alerts.yaml")],
        "scrape_configs": [
            {"job_name": "artmancer", "file_sd_configs": [{"files": [str(folder / "targets.json")]}]},
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    return [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={HOST}:{ports['prometheus']}",
    ]


def shorten_certificate(keys: Keys, life: timedelta) -> None:
    """Give the broker a certificate that ends soon, with everything else as `make credentials` made it."""
    file = keys.folder / BROKER / "server.crt"
    old = x509.load_pem_x509_certificate(file.read_bytes())
    key = load_pem_private_key((keys.folder / "ca.key").read_bytes(), password=None)
    public: Any = old.public_key()
    new = begin_certificate(old.subject, old.issuer, public, datetime.now(UTC), life)
    for extension in old.extensions:
        new = new.add_extension(extension.value, critical=extension.critical)
    file.write_bytes(new.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))  # type: ignore[arg-type]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.cause", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prometheus", type=Path, required=True, help="the program; Debian has a package")
    parser.add_argument("alerts", nargs="*", choices=[*CAUSES, []], help="all, if none is named")
    logging.disable(logging.WARNING)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.prometheus, given.alerts or list(CAUSES))))
