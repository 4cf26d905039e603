"""Three brokers that are killed in turn: `python -m tests.chaos.nodes --kills 50` prints the tables of docs/chaos.md.

A killed process loses nothing that the kernel has, as a power cut does; so `strace` also counts how often each broker
syncs its files to the disk, which is to be at least once for each submit that was acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from deploy.credentials import BROKER
from shared import subjects
from shared.bus import open_bus
from shared.settings import StreamSettings
from tests.cluster_load import BODY, Load, in_step, wait_until_up_to_date
from tests.keys import Keys, cluster
from tests.waiting import wait_until

if TYPE_CHECKING:
    from shared.bus import Bus
    from tests.keys import Node

SETTINGS = StreamSettings(replicas=3, picture_bytes=1024**3)
_SYNC_INTERVAL = re.compile(r"sync_interval: \w+")
_TWO_OF = 5  # every fifth act kills two
_CATCH_UP_S = 300.0


@dataclass
class Report:
    """The counts of a run."""

    acts: list[int] = field(default_factory=list)
    """How many brokers each act killed."""
    waits_s: list[float] = field(default_factory=list)
    """From each kill to twenty accepted submits after it."""
    accepted: int = 0
    lost: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    acknowledged: dict[str, int] = field(default_factory=dict)
    """By broker: the submits that were acknowledged while it ran."""
    syncs: dict[str, int] = field(default_factory=dict)

    def note(self, accepted: int, running: list[Node]) -> None:
        """Add the submits that were accepted since the last call to those of the brokers that ran."""
        for node in running:
            self.acknowledged[node.name] += accepted - self.accepted
        self.accepted = accepted


class Syncs:
    """Counts the system calls that sync files, by the files that strace writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def trace(self, name: str) -> list[str]:
        """Return the command that starts a broker under strace. A kill reaches the broker itself."""
        return ["strace", "-D", "-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-A", "-o", str(self._file(name))]

    def count(self, name: str) -> int:
        """Return how many have succeeded so far."""
        return self._file(name).read_text(errors="replace").count("= 0") if self._file(name).exists() else 0

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.syncs"


async def main(given: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    if shutil.which("strace") is None:
        print("This needs strace: apt-get install strace.", file=sys.stderr)  # noqa: T201
        return 1
    with tempfile.TemporaryDirectory(prefix="nodes-") as name:
        folder = Path(name)
        keys = Keys.made(folder / "keys")
        configuration = keys.folder / BROKER / "nats-cluster.conf"
        if given.sync_interval:
            text = _SYNC_INTERVAL.sub(f"sync_interval: {given.sync_interval}", configuration.read_text())
            configuration.write_text(text)
        syncs = Syncs(folder)
        async with cluster(keys, folder, syncs.trace) as nodes:
            urls = ",".join(node.url for node in nodes)
            async with open_bus(keys.settings(urls, "operator"), "operator") as bus:
                await wait_until_up_to_date(bus, SETTINGS)
                await _measure(bus, nodes, syncs, given)
                report = await _kill(bus, nodes, syncs, given) if given.kills else Report()
    _print(report)
    return 1 if report.lost else 0


async def _measure(bus: Bus, nodes: list[Node], syncs: Syncs, given: argparse.Namespace) -> None:
    """Print the time of a submit and the syncs of each broker, with one submit at a time and with several."""
    for at_once in (1, 16):
        before = {node.name: syncs.count(node.name) for node in nodes}
        times: list[float] = []
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(at_once):
                submits = _submit(bus, f"m{at_once}-{number}", given.submits // at_once, times)
                group.create_task(submits, name=f"measured-{number}")
        took_s = time.monotonic() - began
        counted = {node.name: syncs.count(node.name) - before[node.name] for node in nodes}
        slow = sorted(times)[int(len(times) * 0.99)]
        print(  # noqa: T201
            f"{at_once} at once: {len(times)} submits, {len(times) / took_s:.0f} a second, "
            f"median {median(times) * 1000:.1f} ms, p99 {slow * 1000:.1f} ms; syncs {counted}"
        )


async def _submit(bus: Bus, name: str, amount: int, times: list[float]) -> None:
    for serial in range(amount):
        began = time.monotonic()
        await bus.publish(subjects.submission("interactive", "u1", f"{name}-{serial}"), BODY)
        times.append(time.monotonic() - began)


async def _kill(bus: Bus, nodes: list[Node], syncs: Syncs, given: argparse.Namespace) -> Report:
    report, load = Report(), Load(bus, given.at_once, given.pause)
    dice = random.Random(given.seed)  # noqa: S311 (it must be repeatable)
    before = {node.name: syncs.count(node.name) for node in nodes}
    report.acknowledged = dict.fromkeys(before, 0)
    async with load.under_way():
        while sum(report.acts) < given.kills:
            first = len(report.acts) % len(nodes)
            victims = [nodes[first]]
            if len(report.acts) % _TWO_OF == _TWO_OF - 1:
                victims.append(nodes[(first + dice.choice((1, 2))) % len(nodes)])
            try:
                await _act(bus, victims, nodes, load, report)
            except AssertionError as late:
                await _describe(bus, nodes, load, late)
                raise
            print(  # noqa: T201
                f"{sum(report.acts):3d} killed, {len(load.accepted)} accepted, {len(load.errors)} refused", flush=True
            )
    report.syncs = {name: syncs.count(name) - number for name, number in before.items()}
    report.note(len(load.accepted), nodes)
    report.refused, report.lost = load.errors, await load.lost()
    return report


async def _describe(bus: Bus, nodes: list[Node], load: Load, late: AssertionError) -> None:
    """Add the brokers' reports to a wait that was in vain."""
    late.add_note(f"connected: {bus.is_connected}, refused: {load.errors[-3:]}")
    for node in nodes:
        late.add_note("\n".join([f"{node.name}:", *node.said[-25:]]))
    with contextlib.suppress(Exception):  # a cluster without a leader does not answer
        for info in await bus.client.jetstream(timeout=5).streams_info():
            late.add_note(f"{info.config.name} {info.cluster}")


async def _act(bus: Bus, victims: list[Node], nodes: list[Node], load: Load, report: Report) -> None:
    """Kill brokers, start them again, and wait until all copies are up to date."""
    await asyncio.gather(*(node.kill() for node in victims))
    report.note(len(load.accepted), nodes)
    began = time.monotonic()
    if len(victims) == 1:
        await load.goes_on()
        report.note(len(load.accepted), [node for node in nodes if node not in victims])
    await asyncio.gather(*(node.start() for node in victims))
    await load.goes_on()
    report.waits_s.append(time.monotonic() - began)
    await wait_until(lambda: in_step(bus), "the killed have caught up", _CATCH_UP_S)
    await load.goes_on()
    report.note(len(load.accepted), nodes)
    report.acts.append(len(victims))


def _print(report: Report) -> None:
    if not report.acts:
        return
    print(  # noqa: T201
        f"| {sum(report.acts)} | {report.acts.count(2)} | {report.accepted} | {len(report.refused)} | "
        f"{len(report.lost)} | {median(report.waits_s):.1f} s | {max(report.waits_s):.1f} s |"
    )
    for name, number in sorted(report.syncs.items()):
        acknowledged = report.acknowledged[name]
        print(f"| {name} | {acknowledged} | {number} | {number / acknowledged:.1f} |")  # noqa: T201
    for reason in sorted(set(report.refused)):
        print(f"refused: {reason}")  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.nodes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=1, help="submits under way while brokers are killed")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds of each client between two submits")
    parser.add_argument("--submits", type=int, default=320, help="that are measured before the first kill")
    parser.add_argument("--sync-interval", default="", help="another one than that of deploy/nats-cluster.conf")
    logging.disable(logging.WARNING)  # the client reports each lost connection
    sys.exit(asyncio.run(main(parser.parse_args())))
