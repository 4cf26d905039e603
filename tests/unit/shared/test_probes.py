"""Probes of a process, and the command that Docker runs for its health check."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import BrokerUnavailable
from shared.listener import serve_probes
from shared.probes import LIVE, Probes, probe
from shared.settings import ProbeSettings
from tests.ports import free_port

ROOT = Path(__file__).parents[3]
HOST = "127.0.0.1"


@pytest.fixture
def stop() -> asyncio.Event:
    """Set when the process must stop."""
    return asyncio.Event()


@pytest.fixture
def probes(stop: asyncio.Event) -> Probes:
    """Of a process that has just begun."""
    return Probes(stop)


async def fine() -> None:
    """Succeed, as a dependency that answers."""


async def down() -> None:
    """Fail, as a dependency that does not answer."""
    raise BrokerUnavailable


async def test_a_process_that_starts_is_not_ready(probes: Probes) -> None:
    """Even when all that it needs is there."""
    probes.require(fine)

    assert (await probes.check_started(), await probes.check_ready()) == ("The service is starting.",) * 2


async def test_a_process_is_ready_once_it_has_started(probes: Probes) -> None:
    """No sentence means yes."""
    probes.require(fine)
    probes.mark_started()

    assert (await probes.check_started(), await probes.check_ready()) == ("", "")


async def test_a_dependency_that_fails_is_the_reason(probes: Probes) -> None:
    """It takes readiness away, and it does not undo the start."""
    probes.require(fine)
    probes.require(down)
    probes.mark_started()

    assert await probes.check_ready() == "The message broker is not available."
    assert await probes.check_started() == ""


async def test_a_process_that_stops_takes_no_more_work(probes: Probes, stop: asyncio.Event) -> None:
    """Readiness ends with the stop signal, while running work finishes."""
    probes.mark_started()
    stop.set()

    assert await probes.check_ready() == "The service is stopping."


# --- the command --------------------------------------------------------------------------------------------------


async def asked_by_docker(**variables: str) -> tuple[int | None, str]:
    """Exit code and words of the HEALTHCHECK."""
    asking = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shared.probes", cwd=ROOT, env=variables, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asking.communicate()
    return asking.returncode, said.decode()


async def test_docker_hears_a_yes_or_the_reason(stop: asyncio.Event) -> None:
    """Exit code 0 without a word, or 1 with one sentence."""
    port = free_port()
    async with serve_probes(ProbeSettings(port=port), stop) as probes:
        early = await asked_by_docker(PROBE_PORT=str(port))
        probes.mark_started()
        later = await asked_by_docker(PROBE_PORT=str(port))

    assert early == (1, "The service is starting.\n")
    assert later == (0, "")


@pytest.mark.parametrize("port", ["", "http"])
async def test_docker_is_told_that_no_port_is_set(port: str) -> None:
    """An image without PROBE_PORT must not look healthy."""
    assert await asked_by_docker(PROBE_PORT=port) == (1, "PROBE_PORT is not set, so this process has no probes.\n")


def test_nobody_is_not_ready() -> None:
    """A process that has not come to listen yet, or is gone."""
    port = free_port()

    assert probe(port) == f"No process listens on port {port}."


async def test_a_loop_that_does_not_turn_is_not_alive(stop: asyncio.Event) -> None:
    """The question is asked from the very loop that would have to answer it, so it hangs."""
    port = free_port()
    async with serve_probes(ProbeSettings(port=port), stop):
        why = probe(port, LIVE, timeout_s=0.2)

    assert why == "The process does not respond: its event loop is blocked."


def test_the_command_imports_nothing_heavy() -> None:
    """It starts every few seconds in every container, beside a service that has work to do."""
    code = "import shared.probes, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert not {"asyncio", "pydantic", "nats", "logging", "json", "ssl"} & set(loaded.stdout.split())
