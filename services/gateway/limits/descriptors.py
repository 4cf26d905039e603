"""File descriptors: as many as the system allows, and fewer connections than that.

Without a free descriptor asyncio cannot accept a connection, tries again at once, and writes a log line each time:
160,000 lines in 18 s, without one answer.
"""

from __future__ import annotations

import logging
import resource

_WANTED = 65_536
_RESERVED = 128  # for the broker, the probes, decoding children, files, and connections that are being refused
_FEWEST = 16
log = logging.getLogger(__name__)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of file descriptors, log it, and return how many connections may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):  # macOS allows fewer than its hard limit
            log.warning("http.descriptors_limited", extra={"descriptors": soft})
    descriptors = wanted if soft == resource.RLIM_INFINITY else soft
    connections = max(_FEWEST, descriptors - _RESERVED)
    log.info("http.descriptors", extra={"descriptors": descriptors, "connections": connections})
    return connections
