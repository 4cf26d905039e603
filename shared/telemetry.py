"""Logs that a person and a machine can read: an event name, then fields. Never pixels, prompts or paths."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class EventFormatter(logging.Formatter):
    """`12:00:01.123 INFO  job.started job_id=... attempt=1`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line; a traceback follows only at DEBUG, because it may hold what a user sent."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock}.{int(record.msecs):03d} {record.levelname:<7} {record.getMessage()}"
        fields = {key: value for key, value in vars(record).items() if key not in _RESERVED}
        line += "".join(f" {key}={_plain(value)}" for key, value in fields.items())
        if record.exc_info and record.exc_info[0] is not None:
            line += f" error={record.exc_info[0].__name__}"
            if logging.getLogger().isEnabledFor(logging.DEBUG):
                line += "\n" + self.formatException(record.exc_info)
        return line


def _plain(value: object) -> str:
    """Quote what would not read as one word, or would write a line of its own."""
    text = str(value)
    return text if text.isprintable() and text and " " not in text else repr(text)


def configure(level: str, stream: TextIO = sys.stderr) -> None:
    """Send all logs of this process to the stream, in our format."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(EventFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # the bus reports what matters itself
    logging.getLogger("asyncio").setLevel(logging.ERROR)
