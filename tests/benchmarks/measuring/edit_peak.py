"""`python -m tests.benchmarks.measuring.edit_peak HEIGHT WIDTH SIDE`: print the MB that a removal takes at its peak."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from services.a100worker.backends.classical.engine import Classical
from shared.image_codec import encode_jpeg
from tests.benchmarks.test_edit import enlarged_photo, remove_from_file, spot
from tests.unit.services.a100worker.recorder import SETUP

_FORGET_PEAK = "5"


def main() -> None:
    """Make the photo, forget its peak, and remove a square from it."""
    height, width, side_px = (int(text) for text in sys.argv[1:])
    jpeg, mask = encode_jpeg(enlarged_photo((height, width)), 90), spot((height, width), side_px)
    with closing(Classical(*SETUP)) as engine:
        Path("/proc/self/clear_refs").write_text(_FORGET_PEAK)
        before_mb = _peak_mb()
        remove_from_file(engine, jpeg, mask)
        print(_peak_mb() - before_mb)  # noqa: T201 (the answer to the benchmark)


def _peak_mb() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


if __name__ == "__main__":
    main()
