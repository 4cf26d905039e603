"""Logs: one line for each event, readable and impossible to forge."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from shared import telemetry, tracing

if TYPE_CHECKING:
    from collections.abc import Iterator


ROOT = Path(__file__).parents[3]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Yield the log of the process from now on; restore logging afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure("INFO", stream)
    yield stream
    root.handlers[:], root.level = before[0], before[1]


def test_an_event_is_one_line_with_its_fields(log: io.StringIO) -> None:
    """A line has time, level, event and fields."""
    logging.getLogger("kitchen").info("cake.baked", extra={"job_id": "j1", "minutes": 40})

    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} INFO    cake\.baked job_id=j1 minutes=40\n", log.getvalue())


WARNING_TWICE = """
from PIL import Image
from shared import telemetry
telemetry.configure("INFO", form="json", service="s", instance="i")
for length in (10, 11):
    image = Image.new("L", (1, 1))
    image.info["exif"] = b"II*\\0\\x08\\0\\0\\0\\1\\0\\x0f\\1\\2\\0" + bytes([length, 0, 0, 1, 0, 0, 0, 9])
    image.getexif()
print("done")
"""


def test_a_warning_of_a_library_is_one_line_of_the_log() -> None:
    """A JSON log holds JSON only, and a second broken picture adds no line."""
    run = subprocess.run([sys.executable, "-c", WARNING_TWICE], capture_output=True, text=True, check=True, cwd=ROOT)

    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert {line["event"] for line in lines} == {"py.warnings"}
    assert len(lines) == len({line["message"].split(":")[1] for line in lines})
    assert "TiffImagePlugin" in lines[0]["message"]
    assert "/PIL/" not in lines[0]["message"]
    assert run.stdout == "done\n"


NATIVE_OUTPUT = """
import ctypes, logging, os
from shared import telemetry
telemetry.configure("INFO", form="json", service="gateway")
telemetry.log_native_output()
os.write(2, b"/tmp/a/tempfile.tif: not configured.\\n")
ctypes.PyDLL(None).write(2, b"again\\n" * 50_000, 300_000)  # while it holds the lock of the interpreter
logging.getLogger("shared").info("alive")
input()
"""


def test_what_a_c_library_prints_is_an_event() -> None:
    """So that the log is JSON alone. More than the pipe holds stops nothing, and is not all logged."""
    command = [sys.executable, "-c", NATIVE_OUTPUT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stderr is not None
        lines = [json.loads(process.stderr.readline()) for _ in range(21)]
        _, rest = process.communicate(b"\n")

    texts = [line.get("text") for line in lines if line["event"] == "native.output"]
    assert texts == ["tempfile.tif: not configured.", *["again"] * 19]
    assert [line["event"] for line in lines if "text" not in line] == ["alive"]
    assert rest == b""


@pytest.mark.parametrize("text", ["two words", "", "a\nERROR forged", "a\rb", "\x1b[2J", "tab\tbed"])
def test_a_field_cannot_break_the_line(log: io.StringIO, text: str) -> None:
    """User data in a field stays inside its quotes."""
    logging.getLogger("kitchen").warning("cake.burnt", extra={"reason": text})

    assert log.getvalue().endswith(f"cake.burnt reason={text!r}\n")
    assert log.getvalue().rstrip("\n").isprintable()


def fail() -> None:
    try:
        int("the user's secret")
    except ValueError:
        logging.getLogger("kitchen").exception("oven.exploded")


def test_an_exception_is_named_and_no_more(log: io.StringIO) -> None:
    """The text of an error may contain user data, its traceback local paths."""
    fail()

    assert log.getvalue().endswith("ERROR   oven.exploded error=ValueError\n")


def test_at_debug_the_traceback_follows(log: io.StringIO) -> None:
    """At DEBUG the traceback is written."""
    logging.getLogger().setLevel("DEBUG")

    fail()

    assert "Traceback (most recent call last)" in log.getvalue()


def test_below_the_level_nothing_is_written(log: io.StringIO) -> None:
    """INFO has events, DEBUG has reasons."""
    logging.getLogger("kitchen").debug("oven.lit")

    assert log.getvalue() == ""


def test_what_libraries_say_at_debug_is_not_written(log: io.StringIO) -> None:
    """Libraries log their data at DEBUG: one of them messages with previews, another one images."""
    logging.getLogger().setLevel("DEBUG")
    for name in ("sse_starlette.sse", "PIL.TiffImagePlugin", "shared.kitchen"):
        logging.getLogger(name).debug("jpeg_base64 of %s", name)

    assert log.getvalue().endswith("DEBUG   jpeg_base64 of shared.kitchen\n")
    assert log.getvalue().count("\n") == 1


def test_a_library_cannot_break_the_line_either(log: io.StringIO) -> None:
    """A library's text may contain data from a client."""
    logging.getLogger("kitchen").warning("found %s", "a\nERROR forged\x85")

    assert log.getvalue().endswith("WARNING 'found a\\nERROR forged\\x85'\n")


def test_a_foreign_trace_is_not_quoted(log: io.StringIO) -> None:
    """Any client can send the header `tracestate`; a warning about its faults is not logged."""
    tracing.extract({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": "ERROR forged=x,,,"})

    assert log.getvalue() == ""


def test_a_broken_form_is_its_sender_s_to_hear_of(log: io.StringIO) -> None:
    """The parser's warnings would make a line for every piece of nonsense that anybody sends."""
    with pytest.raises(MultipartParseError):
        MultipartParser("x").write(b"nonsense")

    assert log.getvalue() == ""


# --- as JSON ------------------------------------------------------------------------------------------------------


@pytest.fixture
def json_log(log: io.StringIO) -> io.StringIO:
    """Yield the log as JSON lines."""
    telemetry.configure("INFO", log, form="json", service="oven", instance="o1")
    return log


def only(log: io.StringIO) -> dict[str, object]:
    """Return the one line that was logged."""
    (line,) = log.getvalue().splitlines()
    loaded: dict[str, object] = json.loads(line)
    return loaded


def test_an_event_is_one_object(json_log: io.StringIO) -> None:
    """A line has time, level, event, service and instance, then the fields unchanged."""
    logging.getLogger("services.kitchen").info("cake.baked", extra={"job_id": "j1", "minutes": 40, "note": "a\nb"})
    line = only(json_log)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("time")))
    assert line == {
        "level": "INFO", "event": "cake.baked", "service": "oven", "instance": "o1",
        "job_id": "j1", "minutes": 40, "note": "a\nb",
    }  # fmt: skip


def test_an_event_names_the_trace_it_is_part_of(json_log: io.StringIO) -> None:
    """So that one click leads from a trace to its logs."""
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with tracing.span("baking", parent=tracing.extract({"traceparent": given})):
        logging.getLogger("services.kitchen").info("cake.baked")
    line = only(json_log)

    assert (line["trace_id"], line["span_id"]) == (given[3:35], given[36:52])


def test_what_is_bound_is_in_every_event(json_log: io.StringIO) -> None:
    """Logs of libraries deep in an engine have the fields too; logs outside the block do not."""
    kitchen = logging.getLogger("services.kitchen")
    with telemetry.log_context(job_id="j1"):
        threading.Thread(target=kitchen.info, args=("oven.cold",)).run()
        kitchen.info("oven.hot", extra={"degrees": 180})
    kitchen.info("oven.off")
    lines = [json.loads(line) for line in json_log.getvalue().splitlines()]

    assert [line.get("job_id") for line in lines] == ["j1", "j1", None]


def test_a_field_cannot_pose_as_another(json_log: io.StringIO) -> None:
    """Fields cannot replace the service and the instance."""
    logging.getLogger("services.kitchen").info("cake.baked", extra={"service": "bakery", "level": "DEBUG"})
    line = only(json_log)

    assert (line["service"], line["level"]) == ("oven", "INFO")


def test_a_library_s_prose_is_a_field(json_log: io.StringIO) -> None:
    """Without the folders of this machine."""
    logging.getLogger("asyncio").error("Task was destroyed but it is pending! at /srv/app/oven.py:12, see /v1")
    line = only(json_log)

    assert line["event"] == "asyncio"
    assert line["message"] == "Task was destroyed but it is pending! at oven.py:12, see /v1"


def test_an_error_is_its_type(json_log: io.StringIO) -> None:
    """And nothing that a user may have sent."""
    fail_in_ours()
    line = only(json_log)

    assert line["error"] == "ValueError"
    assert "frames" not in line
    assert "secret" not in json_log.getvalue()


def test_at_debug_an_error_has_frames(json_log: io.StringIO) -> None:
    """Frames have modules, lines and functions, but no texts and no paths."""
    logging.getLogger().setLevel("DEBUG")

    fail_in_ours()

    frames = only(json_log)["frames"]
    assert isinstance(frames, list)
    assert [re.sub(r"^[\w.]+:\d+", "module:line", frame) for frame in frames] == ["module:line fail_in_ours"]
    assert "secret" not in json_log.getvalue()


def test_an_error_in_groups_is_its_cause(json_log: io.StringIO) -> None:
    """A group itself, as a TaskGroup raises it, names nothing that an operator could look for."""
    logging.getLogger().setLevel("DEBUG")
    error = ExceptionGroup("outer", [ExceptionGroup("inner", [KeyError("secret")]), ValueError()])
    logging.getLogger("services.oven").error("oven.exploded", exc_info=error)
    line = only(json_log)

    assert line["error"] == "KeyError"
    assert "secret" not in json_log.getvalue()


def fail_in_ours() -> None:
    try:
        int("the user's secret")
    except ValueError:
        logging.getLogger("services.oven").exception("oven.exploded")
