"""Several ports at once, for servers that must know of each other before they start."""

from __future__ import annotations

import socket
from contextlib import ExitStack

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Free ports, each another: asked for one by one, two of them are the same once in some thousand times."""
    with ExitStack() as probes:
        found = [probes.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in found]
