"""Wall clocks of services that jump while they run, by libfaketime; their monotonic clocks are right."""

from __future__ import annotations

from pathlib import Path

import psutil

MINUTES_S, DAYS_S = 10 * 60, 3 * 86_400
SKEWS_S = (-DAYS_S, -MINUTES_S, 0, MINUTES_S, DAYS_S)
_SHARED = Path("/dev/shm")  # noqa: S108 (where libfaketime puts it)


def find_library() -> str | None:
    """Return the path of libfaketime; None if it is not installed (Debian: faketime)."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else None


def clock_variables(library: str, folder: Path, name: str) -> dict[str, str]:
    """Return the environment of a service with a clock of its own, which is right at first."""
    skew(folder, name, 0)
    return {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(folder / name),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def sweep() -> None:
    """Remove the shared memory that libfaketime leaves behind when its process is killed."""
    for left in (*_SHARED.glob("faketime_shm_*"), *_SHARED.glob("sem.faketime_sem_*")):
        if not psutil.pid_exists(int(left.name.rpartition("_")[2])):
            left.unlink(missing_ok=True)


def skew(folder: Path, name: str, offset_s: int) -> None:
    """Let the clock of a service jump to this distance from the true time."""
    folder.mkdir(exist_ok=True)
    new = folder / f"{name}.new"
    new.write_text(f"{offset_s:+d}")
    new.rename(folder / name)
