"""`python -m tests.chaos.soak --minutes N` loads the system fully, then prints a verdict on each process, with a plot.

Stored data must not grow during the run, so the streams keep it for two minutes instead of days: growth after the
warm-up is a leak.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil

from services.stack.nats_server import HOST
from services.stack.stack import ALLOCATOR
from shared.bus import Bus, open_bus
from shared.settings import NatsSettings, StreamSettings
from tests.chaos import parts
from tests.chaos.driver import Clock, dice
from tests.chaos.load.crowd import Crowd
from tests.chaos.verdict import ledger, plot, samples

if TYPE_CHECKING:
    from tests.chaos.parts import Parts

STREAMS = StreamSettings(picture_bytes=4 * 1024**3)
FORGETFUL = ("JOB_LOG", "JOB_EV", "JOB_DLQ", "KV_jobs", "KV_owned", "OBJ_inputs", "OBJ_results", "OBJ_cache")
FORGET_S, REPEATS_S = 120.0, 60.0
LIMITS_MB = {"nats": 256 * 1024**2 / 1e6}  # GOMEMLIMIT, see services/stack/nats_server.py
_EVERY_S = 5.0
_QUIET_S = 60.0


async def run(chosen: argparse.Namespace, folder: Path, clock: Clock) -> list[str]:
    """Run the system under load, sample it, and return its faults."""
    counted = folder / "counted"
    counted.mkdir()
    environment = {
        **ALLOCATOR,
        "A100WORKER_BACKEND": "scripted",
        "LOG_LEVEL": "WARNING",
        "STREAMS_PICTURE_BYTES": str(STREAMS.picture_bytes),
        "COUNTED_FOLDER": str(counted),
        # Full after the warm-up, also on a slow machine.
        "GATEWAY_RESULTS_IN_MEMORY_BYTES": str(1024**2),
        "A100WORKER_INPUTS_IN_MEMORY_BYTES": str(1024**2),
        "A100WORKER_PHOTOS_IN_MEMORY_BYTES": str(1024**2),
    }
    launch = "-m", "tests.chaos.verdict.counted"
    async with parts.running(folder, chosen.workers, environment, clock.note, launch) as system:
        clock.say(f"ready, gateway on port {system.port}, logs in {folder}")
        limits = httpx.Limits(max_connections=200)
        async with (
            open_bus(NatsSettings(url=system.server.url), "soak") as bus,
            httpx.AsyncClient(base_url=f"http://{HOST}:{system.port}", timeout=60, limits=limits) as http,
        ):
            await _forget_soon(bus)
            crowd, closing = Crowd(dice(chosen.seed, "crowd"), bus, http), asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(crowd.run(chosen.customers, closing), name="crowd")
                taken = await _sample(chosen.minutes * 60, system, counted, crowd, clock)
                closing.set()
            restless = await _quiet(bus)
        return _report(chosen, taken, crowd, restless, clock)


async def _forget_soon(bus: Bus) -> None:
    jetstream = bus.client.jetstream()
    for name in FORGETFUL:
        live = (await jetstream.stream_info(name)).config
        await jetstream.update_stream(replace(live, max_age=FORGET_S, duplicate_window=REPEATS_S))


async def _sample(
    length_s: float, system: Parts, counted: Path, crowd: Crowd, clock: Clock
) -> dict[str, list[samples.Sample]]:
    taken: defaultdict[str, list[samples.Sample]] = defaultdict(list)
    began, last, ended = time.monotonic(), 0.0, 0
    while (now := time.monotonic() - began) < length_s:
        for name, process in system.processes.items():
            taken[name].append(samples.take(process, now, counted))
        if now - last >= 60:
            rate = (crowd.ended.total() - ended) / (now - last)
            last, ended = now, crowd.ended.total()
            clock.say(f"{ended} jobs, {rate:.0f} a second, {sum(each[-1].rss_mb for each in taken.values()):.0f} MB")
        await parts.happens(asyncio.Event(), _EVERY_S)
    return taken


async def _quiet(bus: Bus) -> list[str]:
    give_up = time.monotonic() + _QUIET_S
    while (restless := await ledger.unquiet(bus, STREAMS)) and time.monotonic() < give_up:
        await parts.happens(asyncio.Event(), 0.5)
    return restless


def _report(
    chosen: argparse.Namespace,
    taken: dict[str, list[samples.Sample]],
    crowd: Crowd,
    restless: list[str],
    clock: Clock,
) -> list[str]:
    """Print the verdict, draw the plot, and return the faults."""
    verdicts = [samples.judge(name, of_one, LIMITS_MB.get(name)) for name, of_one in taken.items()]
    jobs, rate = crowd.ended.total(), crowd.ended.total() / (chosen.minutes * 60)
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(crowd.ended.items()))
    clock.say(f"{jobs} jobs in {chosen.minutes:g} minutes, {rate:.0f} a second: {kinds}")
    for line in (samples.HEAD, *(verdict.row() for verdict in verdicts)):
        clock.say(line)
    memory = {name: [(each.at_s / 60, each.rss_mb) for each in of_one] for name, of_one in taken.items()}
    plot.draw(f"Resident memory over {jobs} jobs, {rate:.0f} a second", memory, "MB", chosen.plot)
    clock.say(f"left behind when all was quiet: {'; '.join(restless) or 'nothing'}; plot in {chosen.plot}")
    if clock.crashes.total():
        restless = [*restless, f"crashes: {dict(clock.crashes)}"]
    return [f"{verdict.name}: {problem}" for verdict in verdicts for problem in verdict.problems] + restless


def options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (%(default)g)")
    parser.add_argument("--customers", type=int, default=32, help="jobs under way (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="number of a100workers (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the dice (%(default)s)")
    parser.add_argument("--plot", type=Path, default=Path("soak.png"), help="where the plot goes (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run and return the exit code: 1 after growth or a process that was left behind."""
    chosen = options(arguments)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    clock = Clock(folder / "log")
    problems = asyncio.run(run(chosen, folder, clock))
    left = [child.name() for child in psutil.Process(os.getpid()).children(recursive=True)]
    for line in problems + ([f"processes left: {left}"] if left else []):
        clock.say(line)
    clock.close()
    if not problems:
        shutil.rmtree(folder)
    return 1 if problems or left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
