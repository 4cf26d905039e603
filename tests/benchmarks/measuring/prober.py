"""Requests a server's health every 20 ms, from its own process: a busy client would measure itself."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time

_EVERY_S = 0.02


async def probed_ms(port: int, duration_s: float) -> list[float]:
    """How long each answer to GET /api/health took while the duration passed."""
    prober = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.measuring.prober",
        str(port),
        str(duration_s),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await prober.communicate()
    return [float(took_ms) for took_ms in json.loads(output)]


def _probe(port: int, duration_s: float) -> list[float]:
    question = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.monotonic() + duration_s
        while (asked := time.monotonic()) < end:
            connection.sendall(question)
            answer = connection.recv(4096)
            while b"}" not in answer:  # head and body may come apart
                answer += connection.recv(4096)
            answers.append(1000 * (time.monotonic() - asked))
            time.sleep(_EVERY_S)
    return answers


if __name__ == "__main__":
    json.dump(_probe(int(sys.argv[1]), float(sys.argv[2])), sys.stdout)
