"""Each mistake of an operator gives one sentence and exit code 78, since a new start cannot help."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.containers.project import Project

EXIT_CONFIG = 78
LOGGED = re.compile(r' (INFO|WARNING) |systemd|^time="')  # by the service, and by Podman, which misses systemd
KEY, CA = "/run/secrets/nats.nk", "/run/secrets/ca.crt"
ACCESS = {
    "GATEWAY_HOST": "0.0.0.0",  # noqa: S104 (in the container)
    "GATEWAY_KEYS_FILE": "/run/access/keys.json",
    "GATEWAY_SIGNING_KEY_FILE": "/run/access/signing.key",
}


@dataclass(frozen=True)
class Mistake:
    """A container that is started wrongly, and the words that its one sentence has."""

    service: str
    words: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)
    mounts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


MISTAKES = {
    "missing-secret": Mistake("jobmanager", ("NATS_NKEY_FILE", KEY, "No such file"), {"NATS_NKEY_FILE": KEY}),
    "unreadable-key": Mistake(
        "jobmanager",
        ("NATS_NKEY_FILE", KEY, "Permission denied"),
        {"NATS_NKEY_FILE": KEY},
        ("{secrets}/closed.nk:" + KEY + ":ro",),
    ),
    "no-key": Mistake(
        "jobmanager",
        ("NATS_NKEY_FILE", KEY, "does not contain a seed"),
        {"NATS_NKEY_FILE": KEY},
        ("{secrets}/ca.crt:" + KEY + ":ro",),
    ),
    "strangers-key": Mistake(
        "jobmanager",
        ("NATS_NKEY_FILE",),
        {"NATS_NKEY_FILE": KEY, "NATS_CA_FILE": CA, "NATS_URL": "tls://nats:4222"},
        ("{secrets}/stranger.nk:" + KEY + ":ro", "{secrets}/ca.crt:" + CA + ":ro"),
        ("--network=artmancer_bus",),
    ),
    "missing-api-keys": Mistake("gateway", ("GATEWAY_KEYS_FILE", "/run/access/keys.json", "No such file"), ACCESS),
    "open-to-everybody": Mistake(
        "gateway",
        ("GATEWAY_KEYS_FILE", "GATEWAY_ACCESS=open"),
        {"GATEWAY_HOST": "0.0.0.0"},  # noqa: S104
    ),
    "port-taken": Mistake(
        "gateway", ("PROBE_PORT", "8080", "in use"), {"GATEWAY_HOST": "127.0.0.1", "PROBE_PORT": "8080"}
    ),
    "absent-models": Mistake(
        "segmentation", ("MODEL_DIR", "fastsam"), {"SEGMENTATION_BACKENDS": "fastsam", "MODEL_DIR": "/models"}
    ),
    "unwritable-models": Mistake(
        "models", ("MODEL_DIR", "/models", "u2netp", "Read-only file system"), arguments=("pull", "u2netp")
    ),
    "wrong-setting": Mistake("imageutils", ("IMAGEUTILS_AT_ONCE",), {"IMAGEUTILS_AT_ONCE": "none"}),
}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="session")
def wrong_secrets(secrets: Path) -> Path:
    """Return the folder of secrets, with a key that its user may not read and one that the broker does not know."""
    from deploy import credentials  # noqa: PLC0415

    closed = secrets / "closed.nk"
    closed.write_bytes((secrets / "jobmanager/nats.nk").read_bytes())
    closed.chmod(0o600)
    elsewhere = secrets / "elsewhere"
    credentials.make(elsewhere, for_containers=True)
    (elsewhere / "jobmanager/nats.nk").rename(secrets / "stranger.nk")
    return secrets


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_a_sentence(project: Project, wrong_secrets: Path, name: str) -> None:
    """It names the setting and the file; there is no stack trace."""
    mistake = MISTAKES[name]
    mounts = [f"--volume={mount.format(secrets=wrong_secrets)}" for mount in mistake.mounts]
    variables = [f"--env={variable}={value}" for variable, value in mistake.variables.items()]

    ended = project.engine.attempt(
        *("run", "--rm", "--read-only", "--tmpfs=/tmp", *variables, *mounts, *mistake.options),
        *(f"artmancer/{mistake.service}", *mistake.arguments),
        timeout_s=60,
    )

    sentences = [line for line in ended.stderr.splitlines() if not LOGGED.search(line)]
    assert ended.returncode == EXIT_CONFIG, ended.stderr
    assert len(sentences) == 1, ended.stderr
    assert all(word in sentences[0] for word in mistake.words), sentences[0]
