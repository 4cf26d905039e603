"""`python -m tests.upgrade.driver`: upgrade the last release to this tree under load, and go back (docs/deploy.md).

Every service runs in both releases side by side for `--seconds`, then in one of them for `--alone-seconds`, behind
Caddy and with keys on both sides. The account counts the failed requests by the cause that docs/deploy.md names, and
lists all others. With `--until` an upgrade is interrupted half way and goes back from there.
It needs the repository's history.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from services.stack.process import ROOT, ProcessGroup
from tests.caddy import caddy
from tests.chaos.parts import happens
from tests.keys import HOST
from tests.upgrade.releases import Fleet, export
from tests.upgrade.visitors import Failure, Visitors

LAST = "55ee1f89ec87e0491450a2223b6d99c4ed8cf9c3"  # release 0.1.0
ORDER = ("jobmanager", "segmentation", "imageutils", "gateway", "worker")
VISITORS = 3
CACHED_S = 12.0  # a gateway looks at its streams every ten seconds


@dataclass(frozen=True)
class Cause:
    """A cause of failures beside 0.1.0 that docs/deploy.md names."""

    sentence: str
    phase: str
    """A part of the phase."""
    status: str
    words: str
    """A part of the answer."""

    def explains(self, failure: Failure) -> bool:
        """Return whether this cause explains the failure."""
        return self.phase in failure.phase and failure.reason.startswith(self.status) and self.words in failure.reason


NAMED = (
    Cause(
        "a gateway of 0.1.0 starts and has no streams yet",
        "gateway: old beside new",
        "503",
        "message broker is not available",
    ),
    Cause("a gateway of 0.1.0 cannot read the end of a job of a newer worker", "old", "409", "still running"),
    Cause("the list is late beside two job managers", "jobmanager", "it lacks", "which is done"),
)


class Account:
    """Prints each step, with the seconds since the start."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.phase = "before"

    def say(self, text: str) -> None:
        """Print a line."""
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)  # noqa: T201


async def main(given: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    account = Account()
    with tempfile.TemporaryDirectory(prefix="upgrade-") as name:
        folder = Path(name)
        trees = {"old": export(given.last, folder / "old"), "new": ROOT}
        async with ProcessGroup() as group:
            try:
                return await _rehearse(Fleet(folder, group, trees, account.say), account, given)
            finally:
                group.kill()


async def _rehearse(fleet: Fleet, account: Account, given: argparse.Namespace) -> int:
    await fleet.open_broker("old")
    key = _make_access(fleet.trees["old"], fleet.folder / "access")
    for role in ORDER:
        await fleet.start("old", role)
    gateways = " ".join(f"{HOST}:{port}" for port in fleet.ports.values())
    over = asyncio.Event()
    async with caddy("Caddyfile", fleet.folder, GATEWAY=gateways) as address, asyncio.TaskGroup() as tasks:
        visitors = [Visitors(address, key, lambda: account.phase, seed, fleet.look) for seed in range(VISITORS)]
        for number, visitor in enumerate(visitors):
            tasks.create_task(visitor.stay(over), name=f"visitor-{number}")
        try:
            await happens(over, given.alone_seconds)
            await _change(fleet, account, given)
        finally:
            over.set()
            code = _report(fleet, visitors)
    return code


async def _change(fleet: Fleet, account: Account, given: argparse.Namespace) -> None:
    account.say("new users")
    await fleet.update_users("new")
    up = ORDER[: ORDER.index(given.until) + 1]
    for release, gone, order in (("new", "old", up), ("old", "new", tuple(reversed(up)))):
        for role in order:
            account.phase = f"{role}: {release} beside {gone}"
            await fleet.start(release, role)
            await happens(asyncio.Event(), given.seconds)
            account.phase = f"{role}: {release} alone"
            await fleet.stop(gone, role)
            await happens(asyncio.Event(), given.alone_seconds)
            await _look(fleet, account)
    account.phase = "old again"
    await happens(asyncio.Event(), CACHED_S)
    await _look(fleet, account)


async def _look(fleet: Fleet, account: Account) -> None:
    for name, reason in (await fleet.not_ready()).items():
        account.say(f"{name} is not ready: {reason}")
    assert not (died := fleet.died()), {name: fleet.lines[name][-20:] for name in died}


def _report(fleet: Fleet, visitors: list[Visitors]) -> int:
    counts = sum((visitor.counts for visitor in visitors), Counter())
    found = sorted((failure for visitor in visitors for failure in visitor.failures), key=lambda each: each.at_s)
    causes = {failure: next((each for each in NAMED if each.explains(failure)), None) for failure in found}
    failures = [failure for failure, cause in causes.items() if cause is None]
    print(f"{counts.total()} requests: {dict(counts)}")  # noqa: T201
    print(f"{sum(visitor.resumed for visitor in visitors)} event streams were resumed")  # noqa: T201
    for cause, count in Counter(cause for cause in causes.values() if cause is not None).items():
        print(f"{count} as docs/deploy.md says: {cause.sentence} ({cause.status})")  # noqa: T201
    for failure in failures:
        print(f"{failure.at_s:7.1f} s  {failure.phase}: {failure.request}: {failure.reason}")  # noqa: T201
    for name, lines in fleet.lines.items():
        said = Counter(match[1] for line in lines if (match := re.search(r"(?:WARNING|ERROR)\s+(\S+)", line)))
        print(f"{name}: {dict(said.most_common(8))}")  # noqa: T201
    refused = [line for line in fleet.broker.said if "Violation" in line]
    print(f"{len(refused)} refused by the broker: {refused[:10]}")  # noqa: T201
    for line in [line for line in fleet.broker.said if "[WRN]" in line or "[ERR]" in line][-20:]:
        print(line)  # noqa: T201
    print(f"{len(failures)} failed, and {len(found) - len(failures)} as docs/deploy.md says")  # noqa: T201
    return 1 if failures else 0


def _make_access(tree: Path, folder: Path) -> str:
    """Make the signing key and the first API key as the release does; return the key."""
    made = subprocess.run(
        [sys.executable, "-m", "deploy.access", str(folder)], cwd=tree, capture_output=True, text=True, check=True
    )
    (key,) = re.findall(r"\bam_\S+", made.stdout + made.stderr)
    return str(key)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade.driver", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--last", default=LAST, help="the commit of the last release")
    parser.add_argument("--seconds", type=float, default=30.0, help="of both releases side by side (%(default)s)")
    parser.add_argument("--alone-seconds", type=float, default=10.0, help="of one release alone (%(default)s)")
    parser.add_argument("--until", choices=ORDER, default=ORDER[-1], help="go back after this service (%(default)s)")
    sys.exit(asyncio.run(main(parser.parse_args())))
