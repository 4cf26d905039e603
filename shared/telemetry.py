"""Logs for people and machines: an event name, then fields. Never pixels, prompts or paths."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
import time
import traceback
import warnings
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from shared import tracing
from shared.errors import first_of

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)
_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OURS = ("shared", "services", "tests", "__main__")
_FOLDERS = re.compile(r"(?:/[\w.+-]+)+/(?=[\w.+-])")
_NATIVE_LINES, _NATIVE_PERIOD_S, _LONGEST_NATIVE = 20, 60.0, 300
_bound: ContextVar[dict[str, object]] = ContextVar("bound")


class EventFormatter(logging.Formatter):
    """`12:00:01.123 INFO  job.started job_id=... attempt=1`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; a traceback follows only at DEBUG, because it may contain user data."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        event = record.getMessage()
        line = f"{clock}.{int(record.msecs):03d} {record.levelname:<7} {event if event.isprintable() else repr(event)}"
        line += "".join(f" {key}={_plain(value)}" for key, value in _fields(record).items())
        if record.exc_info and record.exc_info[0] is not None:
            line += f" error={record.exc_info[0].__name__}"
            if logging.getLogger().isEnabledFor(logging.DEBUG):
                line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object for each event: time, level, event, service, instance, the ids of the trace, then the fields."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._origin = {"service": service, "instance": instance}

    def format(self, record: logging.LogRecord) -> str:
        """Return one line. For an error it has the type, and at DEBUG the stack, but never the text."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, object] = {"time": at, "level": record.levelname, **_event(record), **self._origin}
        if (running := tracing.current_ids()) is not None:
            line["trace_id"], line["span_id"] = running
        line |= {key: value for key, value in _fields(record).items() if key not in line}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            cause = first_of(error) if isinstance(error, BaseExceptionGroup) else error  # a group names no cause
            line["error"] = type(cause).__name__
            if logging.getLogger().isEnabledFor(logging.DEBUG):
                line["frames"] = _frames(cause)
        return json.dumps(line, default=str)


@contextlib.contextmanager
def log_context(**fields: object) -> Iterator[None]:
    """Add these fields to all logs of the block, also in tasks and threads that it starts."""
    token = _bound.set({**_bound.get({}), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def configure(
    level: str, stream: TextIO = sys.stderr, *, form: str = "text", service: str = "", instance: str = ""
) -> None:
    """Send all logs of this process to the stream, as text or as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.addFilter(_is_wanted)
    handler.setFormatter(JsonFormatter(service, instance) if form == "json" else EventFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    _capture_warnings()
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # shared/connection.py logs its errors
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the sender of a broken body gets an error
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)  # its warnings quote the headers of any client


def log_native_output() -> None:
    """Log the lines of C libraries and child processes on standard error: decoders warn there of the files of clients.

    The last output of a library that aborts this process may be lost; the exit code is kept. Call it after `configure`,
    once in a process.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")  # for Python's own last output
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
    read_end, write_end = os.pipe()
    # A library may hold the interpreter's lock, which the thread needs to empty a full pipe: the rest is lost.
    os.set_blocking(write_end, False)
    os.dup2(write_end, 2)
    os.close(write_end)
    threading.Thread(target=_log_lines, args=(read_end,), name="telemetry.native", daemon=True).start()


def _log_lines(descriptor: int) -> None:
    """Log each line until the end, but few in a period: a file can make a decoder write thousands."""
    began, lines = time.monotonic(), 0
    with os.fdopen(descriptor, errors="replace") as output:
        for line in output:
            if time.monotonic() - began > _NATIVE_PERIOD_S:
                began, lines = time.monotonic(), 0
            if line.strip() and lines < _NATIVE_LINES:
                lines += 1
                log.info("native.output", extra={"text": _FOLDERS.sub("", line.strip())[:_LONGEST_NATIVE]})


def _capture_warnings() -> None:
    """Send warnings of libraries to the log, each line of code once.

    Python remembers every text that it has shown, and Pillow's texts contain numbers of the file: without `always` a
    process would keep one string for each broken picture.
    """
    logging.captureWarnings(True)  # noqa: FBT003 (it takes no keyword)
    warnings.filterwarnings("always", module=r"PIL\.")
    shown: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        place = ":".join(record.getMessage().split(":", 3)[:3])  # file, line, category
        return place not in shown and not shown.add(place)  # type: ignore[func-returns-value]

    logging.getLogger("py.warnings").filters[:] = [is_new]


def _is_wanted(record: logging.LogRecord) -> bool:
    """Drop the DEBUG logs of libraries, which contain messages with previews and metadata of images."""
    return record.levelno > logging.DEBUG or _is_ours(record)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in _OURS


def _plain(value: object) -> str:
    """Quote a value with spaces, or with characters that would break the line."""
    text = str(value)
    return text if text.isprintable() and text and " " not in text else repr(text)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return _bound.get({}) | {key: value for key, value in vars(record).items() if key not in _RESERVED}


def _event(record: logging.LogRecord) -> dict[str, object]:
    """Return the event of our loggers; for a library its name and the text, without folders of this machine."""
    if _is_ours(record):
        return {"event": record.getMessage()}
    return {"event": record.name, "message": _FOLDERS.sub("", record.getMessage())}


def _frames(error: BaseException) -> list[str]:
    """Return the stack of an error, innermost last: module, line, function."""
    walked = traceback.walk_tb(error.__traceback__)
    return [f"{frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_name}" for frame, line in walked]
