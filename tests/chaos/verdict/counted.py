"""`python -m tests.chaos.verdict.counted services.<name>`: a service that records its numbers of tasks and objects.

Only the process itself can count them. A line of JSON goes to `$COUNTED_FOLDER/<pid>` every few seconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import runpy
import sys
import threading
from pathlib import Path

_EVERY_S = 5.0


class Policy(asyncio.DefaultEventLoopPolicy):
    """Keeps the event loop of the service."""

    loop: asyncio.AbstractEventLoop | None = None

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """See the base class."""
        self.loop = super().new_event_loop()
        return self.loop


def _count(policy: Policy, file: Path) -> None:
    done = threading.Event()
    while not done.wait(_EVERY_S):
        if policy.loop is not None:
            counts = {"tasks": len(asyncio.all_tasks(policy.loop)), "objects": len(gc.get_objects())}
            file.write_text(json.dumps(counts))


if __name__ == "__main__":
    own = Policy()
    asyncio.set_event_loop_policy(own)
    place = Path(os.environ["COUNTED_FOLDER"]) / str(os.getpid())
    threading.Thread(target=_count, args=(own, place), name="counted", daemon=True).start()
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(f"{module}.__main__", run_name="__main__")
