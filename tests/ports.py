"""Free ports for servers that must know their port before they start."""

from __future__ import annotations

import os
import random
import socket
from itertools import chain, cycle

HOST = "127.0.0.1"
# Below the range from which kernels choose ports (Linux from 32768, macOS from 49152): no client's socket and no server
# on port 0 takes one of these ports before its server starts. Each test process of a run has a part of its own.
_FIRST, _SIZE, _PARTS = 12_000, 2_500, 8
_part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PARTS
_begin = _FIRST + _part * _SIZE
_middle = _begin + random.randrange(_SIZE)  # noqa: S311 (two runs on one machine seldom meet)
_candidates = cycle(chain(range(_middle, _begin + _SIZE), range(_begin, _middle)))


def free_port() -> int:
    """Return a free port. It is not given out again until all others were."""
    for port in _candidates:
        try:
            with socket.create_server((HOST, port)):
                return port
        except OSError:
            continue  # another program has it
    raise AssertionError


def free_ports(count: int) -> list[int]:
    """Return several free ports."""
    return [free_port() for _ in range(count)]
