"""The life of a small service: its start, its stop by a signal, and its exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FRAME = """
import asyncio
from pydantic_settings import SettingsConfigDict
from shared.errors import ConfigError
from shared.lifecycle import main
from shared.settings import ServiceSettings

class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="OVEN_", frozen=True)
    heat: int = 180

async def run(settings, stop):
    print("started", flush=True)
"""
START = "\nmain('oven', Settings, run)\n"
WAITS = FRAME + "    await stop.wait()\n    print('drained')" + START
CRASHES = FRAME + "    raise ValueError('/secret/path')" + START
IS_WRONG = FRAME + "    raise ConfigError('The oven is not plugged in.')" + START
HANGS = FRAME + "    await asyncio.Event().wait()" + START
HANGS_IN_A_THREAD = FRAME + "    import threading\n    await asyncio.to_thread(threading.Event().wait)" + START
HANGS_IN_A_POOL = (
    FRAME
    + "    import atexit, threading\n    from concurrent.futures import ThreadPoolExecutor\n"
    + "    atexit.register(print, 'exported', flush=True)\n"
    + "    ThreadPoolExecutor(1).submit(threading.Event().wait)\n    await stop.wait()"
    + START
)
HAS_HUNG = (
    FRAME
    + "    import threading\n    from shared.errors import EngineHung\n"
    + "    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)\n    {}\n    raise EngineHung"
    + START
)
IS_WRONG_BESIDE_A_THREAD = (
    FRAME
    + "    import threading\n    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait, 3)\n"
    + "    raise ConfigError('The oven is not plugged in.')"
    + START
)
ENDS = FRAME + START


def start(source: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", source],
        cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def stopped_by(number: signal.Signals, source: str, **variables: str) -> tuple[int, str]:
    """Start the service, send the signal while it runs, and return exit code and output."""
    with start(source, **variables) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "started\n"
        service.send_signal(number)
        said, _ = service.communicate(timeout=20)
    return service.returncode, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_service_drain(number: signal.Signals) -> None:
    """Docker's signal and Ctrl-C mean the same; the exit code is that of success."""
    assert stopped_by(number, WAITS) == (0, "drained\n")


def test_a_service_that_hangs_is_ended() -> None:
    """After its drain time, and still without an error."""
    assert stopped_by(signal.SIGTERM, HANGS, OVEN_DRAIN_S="0") == (0, "")


@pytest.mark.parametrize(
    ("source", "said"),
    [(HANGS_IN_A_THREAD, ""), (HANGS_IN_A_POOL, "exported\n"), (HAS_HUNG.format("await stop.wait()"), "")],
    ids=["thread", "pool", "engine"],
)
def test_a_stop_leaves_a_thread_behind(source: str, said: str) -> None:
    """A thread cannot be cancelled, and none waits for it: on a busy machine a step may take longer than the stop."""
    assert stopped_by(signal.SIGTERM, source, OVEN_DRAIN_S="0") == (0, said)


def test_an_engine_that_hangs_ends_the_process() -> None:
    """Without a stop it is a fault: exit code 70 has it started again, although the engine's thread runs on."""
    with start(HAS_HUNG.format("")) as service:
        _, logged = service.communicate(timeout=20)

    assert service.returncode == 70
    assert "CRITICAL service.hung service=oven" in logged


def test_a_service_may_end_by_itself() -> None:
    """That is success."""
    with start(ENDS) as service:
        service.communicate(timeout=20)

    assert service.returncode == 0


def test_a_crash_is_named_but_not_shown() -> None:
    """Exit code 1, so that it is started again; no traceback and no text that may hold a secret."""
    with start(CRASHES) as service:
        _, logged = service.communicate(timeout=20)

    assert service.returncode == 1
    assert "ERROR   service.crashed service=oven error=ValueError" in logged
    assert "secret" not in logged
    assert "Traceback" not in logged


@pytest.mark.parametrize(
    ("source", "variables", "sentence"),
    [
        (WAITS, {"OVEN_HEAT": "hot"}, "oven: The setting OVEN_HEAT is not valid: Input should be a valid integer"),
        (IS_WRONG, {}, "oven: The oven is not plugged in."),
        (IS_WRONG_BESIDE_A_THREAD, {}, "oven: The oven is not plugged in."),
    ],
    ids=["variable", "surroundings", "beside a thread"],
)
def test_a_wrong_setting_is_one_sentence(source: str, variables: dict[str, str], sentence: str) -> None:
    """Exit code 78 keeps a supervisor from restarting it before the setting is corrected."""
    with start(source, **variables) as service:
        _, said = service.communicate(timeout=20)

    assert service.returncode == 78
    assert said.splitlines()[-1].startswith(sentence)
