"""Settings: every default runs on a laptop, and a wrong variable is named in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.settings import LogSettings, NatsSettings, ServiceSettings, StreamSettings, find_obsolete, load

ROOT = Path(__file__).parents[3]
LOAD = """
from pydantic_settings import SettingsConfigDict
from shared.errors import ConfigError
from shared.settings import ServiceSettings, load

class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="OVEN_", frozen=True)
    heat: int = 180

try:
    settings = load(Settings)
except ConfigError as error:
    print(error.message)
else:
    print(settings.heat, settings.streams.lease_s, settings.nats.url)
"""


def load_with(**variables: str) -> str:
    """Return the output of a new process that loads the settings of an oven with these variables."""
    ended = subprocess.run(
        [sys.executable, "-c", LOAD], cwd=ROOT, env=variables, capture_output=True, text=True, check=True, timeout=30
    )
    return ended.stdout.strip()


def test_the_environment_is_read() -> None:
    """A service's own variables carry its prefix, shared ones the prefix of their group."""
    said = load_with(OVEN_HEAT="220", STREAMS_LEASE_S="7", NATS_URL="nats://broker:4222")

    assert said == "220 7.0 nats://broker:4222"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OVEN_HEAT", "hot"),
        ("OVEN_DRAIN_S", "-1"),
        ("OVEN_DRAIN_S", "inf"),
        ("STREAMS_LEASE_S", "inf"),
        ("STREAMS_LEASE_S", "soon"),
        ("STREAMS_REPLICAS", "9"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    """The sentence holds the name as it must be typed, whichever group the variable belongs to."""
    said = load_with(**{name: value})

    assert said.startswith(f"The setting {name} is not valid: ")
    assert said.count("\n") == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hello world",
        "broker\n",
        "nats://",
        "nats://broker:99999",
        "nats://broker:0",
        "nats://a:se/cret@broker:4222",
        "http://broker:4222",
        "nats://one:4222,",
    ],
)
def test_what_is_no_address_of_a_broker_is_refused(url: str) -> None:
    """At once, in a sentence that does not repeat it: a password may be in it."""
    said = load_with(NATS_URL=url)

    assert said == (
        "The setting NATS_URL is not valid: It must be nats://host:port or tls://host:port, or several of them, "
        "separated by commas."
    )


@pytest.mark.parametrize(
    "url", ["broker", "broker:4222", "tls://a:b@broker", "nats://[::1]:4222", "nats://one:4222,nats://two:4222"]
)
def test_an_address_of_a_broker_is_taken(url: str) -> None:
    """In all forms that the client knows and we use."""
    assert load_with(NATS_URL=url).endswith(f" {url}")


@pytest.mark.parametrize("group", [NatsSettings, StreamSettings, LogSettings, ServiceSettings])
def test_settings_do_not_change(group: type[ServiceSettings]) -> None:
    """Settings are frozen: they hold until the process ends."""
    settings = load(group)
    name = next(iter(group.model_fields))

    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, name, getattr(settings, name))


OBSOLETE = """
import asyncio
from services.a100worker.settings import Settings
from shared.lifecycle import main

async def run(settings, stop):
    pass

main("a100worker", Settings, run)
"""


def test_a_setting_that_was_removed_is_reported() -> None:
    """The process starts. Its log names the variable and its replacement."""
    variables = {"A100WORKER_QWEN_CONDITION_PX": "1024", "A100WORKER_QWEN_BARE": "true", "LOG_FORMAT": "json"}

    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", OBSOLETE],
        cwd=ROOT, env=variables, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    reported = {line["setting"]: line["instead"] for line in lines if line["event"] == "settings.obsolete"}
    assert reported == {
        "A100WORKER_QWEN_BARE": "a task without an adapter always uses the stock recipe",
        "A100WORKER_QWEN_CONDITION_PX": "the model is shown its images at the size that it paints",
    }


def test_a_setting_that_counts_is_not_reported() -> None:
    """An obsolete variable that is not set is not named either."""
    assert find_obsolete(LogSettings(level="DEBUG")) == {}
