"""A child process that decodes the files of clients, one at a time, and replies with a verdict.

Its standard input is a socket to the gateway (wire.py); it ends when the socket closes.
"""

from __future__ import annotations

import ctypes
import json
import resource
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.gateway.decoding.wire import FILE, NEEDS, REFUSAL, SIZE, VERDICT
from services.gateway.decoding.work import NeedsMemoryError, run
from shared.errors import ArtMancerError

if TYPE_CHECKING:
    from io import BufferedReader

_CPU_S = 10  # of one file; 64 megapixels take one second
_ADDRESS_SPACE_BYTES = 1_000_000_000  # a WebP decoder reserves 8 bytes a pixel before it reads one
_C_LIBRARY = ctypes.CDLL(None)
_HAS_TRIM = hasattr(_C_LIBRARY, "malloc_trim")  # not on macOS


def main() -> None:
    """Serve requests until the socket closes. The argument is the limit of a work's memory, in bytes."""
    limit_bytes = int(sys.argv[1])
    with socket.socket(fileno=0) as parent, parent.makefile("rb") as requests:
        _limit_address_space()
        while (length := requests.read(1)) and _serve(parent, requests, length[0], limit_bytes):
            pass


def _serve(parent: socket.socket, requests: BufferedReader, name_length: int, limit_bytes: int) -> bool:
    work = requests.read(name_length).decode()
    (size,) = SIZE.unpack(requests.read(SIZE.size))
    data = requests.read(size)
    if len(data) < size:
        return False
    _limit_cpu_time()
    kind, answer = _answer(work, data, limit_bytes)
    head = kind + SIZE.pack(len(answer))
    if kind == FILE:
        parent.sendall(head)
        parent.sendall(answer)
    else:
        parent.sendall(head + answer)  # wakes the gateway once
    del data, answer
    _return_memory()
    return True


def _answer(work: str, data: bytes, limit_bytes: int) -> tuple[bytes, bytes]:
    try:
        result = run(work, data, limit_bytes)
    except ArtMancerError as error:
        return REFUSAL, json.dumps([error.code, error.message]).encode()
    except NeedsMemoryError as error:
        return NEEDS, json.dumps(error.needed_bytes).encode()
    except MemoryError:  # the limit of the address space
        return NEEDS, json.dumps(_ADDRESS_SPACE_BYTES).encode()
    return (FILE, result) if isinstance(result, bytes) else (VERDICT, json.dumps(result).encode())


def _limit_address_space() -> None:
    """Limit the address space. macOS ignores it; there the parent alone watches the memory."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        pages = int(statm.read_text(encoding="ascii").split()[0])
        limit_bytes = _ADDRESS_SPACE_BYTES + pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def _limit_cpu_time() -> None:
    """Let the kernel end this process when the next file takes too long."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = int(usage.ru_utime + usage.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used_s + _CPU_S, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _return_memory() -> None:
    if _HAS_TRIM:
        _C_LIBRARY.malloc_trim(0)


if __name__ == "__main__":
    main()
