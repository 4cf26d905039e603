"""`python -m tests.chaos.driver --seed N --rounds N` runs the system under load and faults, and prints an account.

Every accepted job must have ended exactly once when the system is quiet again. The seed decides the submissions and
the faults; their timing depends on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import nats.errors

from services.stack.nats_server import HOST
from shared import declaring
from shared.bus import Bus, open_bus
from shared.errors import BrokerUnavailable
from shared.image_codec import probe_in_thread
from shared.image_store import NatsImageStore
from shared.settings import NatsSettings, StreamSettings
from tests.chaos import parts
from tests.chaos.faults import clocks, engine
from tests.chaos.faults.disk import STORE_BYTES, CannotMount, small_disk
from tests.chaos.faults.violence import Targets, Violence
from tests.chaos.load.customers import Customers
from tests.chaos.load.orders import Orders
from tests.chaos.load.pictures import picture
from tests.chaos.verdict import ledger
from tests.chaos.verdict.account import Account

if TYPE_CHECKING:
    from collections.abc import Callable

STREAMS = StreamSettings(lease_s=engine.LEASE_S, picture_bytes=1024**3)
ENVIRONMENT = {
    "A100WORKER_BACKEND": "tests.chaos.faults.engine:Hostile",
    "A100WORKER_IDLE_POLL_S": "0.2",
    "A100WORKER_RETRY_DELAY_S": "0.2",
    "STREAMS_LEASE_S": str(STREAMS.lease_s),
    "STREAMS_PICTURE_BYTES": str(STREAMS.picture_bytes),
    "GATEWAY_QUEUE_LIMIT_PER_USER": "1000",
}
DISK_MB = 256
BETWEEN_ACTS_S = (0.3, 2.5)
QUIET_S = 300.0  # for the backlog of the last outage on a busy machine; the wait ends once all is settled


class Clock:
    """Writes lines with the seconds since the start."""

    def __init__(self, log: Path) -> None:
        self._start = time.monotonic()
        self._log = log.open("w")
        self.crashes: Counter[str] = Counter()

    def say(self, line: str) -> None:
        """Print a line with the time."""
        print(f"{self._now()}  {line}", flush=True)  # noqa: T201 (a terminal command)
        self.note("chaos", line)

    def note(self, name: str, line: str) -> None:
        """Keep a line of output of a part."""
        self.crashes[name] += "service.crashed" in line
        self._log.write(f"{self._now()} {name:<13}| {line}\n")

    def close(self) -> None:
        """Write the kept lines."""
        self._log.close()

    def _now(self) -> str:
        return f"{time.monotonic() - self._start:8.2f}"


def dice(seed: int, purpose: str) -> random.Random:
    """Return separate dice for each purpose, so that they do not affect each other."""
    return random.Random(f"{seed} {purpose}")  # noqa: S311 (it must be repeatable)


async def run(chosen: argparse.Namespace, folder: Path, clock: Clock) -> Account:
    """Run the system under load and faults, wait until it is quiet, and read all stored messages."""
    disk: Path | None = folder / "nats"
    with contextlib.ExitStack() as undo:
        try:
            undo.enter_context(small_disk(folder / "nats", DISK_MB))
        except CannotMount as error:
            clock.say(f"{error} Nobody will fill it.")
            disk = None
        return await _run(chosen, folder, clock, disk)


async def _run(chosen: argparse.Namespace, folder: Path, clock: Clock, disk: Path | None) -> Account:
    library = clocks.find_library()
    running = parts.running(
        folder,
        chosen.workers,
        ENVIRONMENT,
        clock.note,
        max_store_bytes=STORE_BYTES,
        variables_of=partial(clocks.clock_variables, library, folder / "clocks") if library else None,
    )
    async with running as system:
        clock.say(f"ready, gateway on port {system.port}, logs in {folder}")
        nats = NatsSettings(url=system.server.url)
        async with (
            open_bus(nats, "chaos") as bus,
            httpx.AsyncClient(base_url=f"http://{HOST}:{system.port}") as http,
        ):
            files = picture((200, 120, 40)), picture((255, 255, 255), (4, 4, 12, 12))
            stored = [await NatsImageStore(bus, probe_in_thread).put("inputs", file) for file in files]
            orders = Orders(dice(chosen.seed, "orders"), *(ref.sha256 for ref in stored))
            customers = Customers(bus, http, orders, files)
            clock_folder = folder / "clocks" if library else None
            targets = Targets(system, bus, http, STREAMS, disk=disk, clocks=clock_folder)
            violence = Violence(dice(chosen.seed, "violence"), targets, clock.say)
            account = Account(customers.promises, violence.acts)
            await _fire(chosen, customers, violence, clock.say)
            account.restless = await _quiet(bus, clock.say)
            account.stories = await ledger.read(bus)
            account.refused = customers.refused
            account.bad_answers = violence.bad_answers
            account.crashes = +clock.crashes
    return account


async def _fire(
    chosen: argparse.Namespace, customers: Customers, violence: Violence, say: Callable[[str], None]
) -> None:
    closing, pauses, numbers = asyncio.Event(), dice(chosen.seed, "pauses"), count(1)
    async with asyncio.TaskGroup() as tasks:
        shopping = tasks.create_task(customers.shop(chosen.rate, closing, lambda: next(numbers)), name="customers")
        for _ in range(chosen.rounds):
            await parts.happens(closing, pauses.uniform(*BETWEEN_ACTS_S))
            await violence.act(closing)
        await parts.happens(closing, BETWEEN_ACTS_S[1])
        closing.set()
        say(f"the violence is over, {len(customers.promises)} jobs were accepted")
        await asyncio.wait({shopping}, timeout=QUIET_S)
        shopping.cancel()  # an endless stream shows as a job without an end for its watcher


async def _quiet(bus: Bus, say: Callable[[str], None]) -> list[str]:
    """Wait until all is settled. Return the unsettled rest after the timeout."""
    give_up = time.monotonic() + QUIET_S
    restless: list[str] = ["the broker has not answered"]
    while restless and time.monotonic() < give_up:
        try:
            await declaring.declare_streams(bus, STREAMS)
            restless = await ledger.unquiet(bus, STREAMS) or await ledger.find_unended(bus)
        except (BrokerUnavailable, nats.errors.Error, TimeoutError):
            pass
        await parts.happens(asyncio.Event(), 0.5)
    say("all is quiet" if not restless else f"not quiet: {'; '.join(restless[:10])}")
    return restless


def options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.driver", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="the dice (random)")
    parser.add_argument("--rounds", type=int, default=10, help="acts of violence (%(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="jobs a second (%(default)s)")
    parser.add_argument("--workers", type=int, default=3, help="number of a100workers (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the store and the logs also when all went well")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run, print the account, and return the exit code: 1 if a promise was broken."""
    chosen = options(arguments)
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{chosen.seed}-"))
    clock = Clock(folder / "log")
    clock.say(f"seed {chosen.seed}, {chosen.rounds} rounds, {chosen.rate:g} jobs a second, {chosen.workers} workers")
    account: Any = asyncio.run(run(chosen, folder, clock))
    clocks.sweep()
    for line in account.table():
        clock.say(line)
    problems = account.problems()
    for line in problems:
        clock.say(line)
    clock.close()
    if not problems and not chosen.keep:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
