"""Whether keys are asked for: what follows where nothing is said, and the sentence where that is not enough."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway import keys
from services.gateway.access.authentication import create_authenticator
from services.gateway.access.authorization import required_scope
from services.gateway.access.principal import KeyScope
from services.gateway.settings import Settings
from shared.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

NEAR = ("127.0.0.1", "127.8.9.1", "::1", "localhost")
FAR = ("0.0.0.0", "::", "10.1.2.3", "gateway.internal", "")  # noqa: S104


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Settings that name a file of keys and a secret."""
    keys.new(tmp_path / "keys.json", "alice", frozenset({KeyScope.READ}), None)
    keys.main(["signing-key", str(tmp_path / "secret")])
    return {"keys_file": tmp_path / "keys.json", "signing_key_file": tmp_path / "secret"}


def sentence(**settings: Any) -> str:
    """Why the gateway does not start."""
    with pytest.raises(ConfigError) as refusal:
        create_authenticator(Settings(**settings))
    return refusal.value.message


@pytest.mark.parametrize("host", NEAR)
def test_a_laptop_is_open_to_itself(host: str) -> None:
    """Nobody else can come."""
    assert create_authenticator(Settings(host=host)) is None


@pytest.mark.parametrize("host", FAR)
def test_nobody_is_let_in_by_oversight(host: str) -> None:
    """An address that others can reach, and not a word about it: refused, with both ways out."""
    assert sentence(host=host) == (
        f"Others can reach {host}: set GATEWAY_KEYS_FILE to a file of API keys, "
        "or GATEWAY_ACCESS=open to let everybody in."
    )


@pytest.mark.parametrize("host", FAR)
def test_everybody_is_let_in_where_somebody_says_so(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """In so many words, and the log says it again."""
    assert create_authenticator(Settings(host=host, access="open")) is None
    assert [record.getMessage() for record in caplog.records] == ["access.open"]


@pytest.mark.parametrize("host", [*NEAR, *FAR])
def test_who_has_keys_is_asked_for_them(host: str, files: dict[str, Any]) -> None:
    """Also on loopback: a proxy may stand in front."""
    assert create_authenticator(Settings(host=host, **files)) is not None


def test_open_is_open(files: dict[str, Any]) -> None:
    """Even if there are keys."""
    assert create_authenticator(Settings(access="open", **files)) is None


@pytest.mark.parametrize("name", ["keys_file", "signing_key_file"])
def test_half_of_it_is_not_enough(name: str, files: dict[str, Any]) -> None:
    """The sentence names the setting that is missing."""
    left = {**files, name: None}

    assert sentence(access="keys", **left) == (
        f"API keys are asked for, and the setting GATEWAY_{name.upper()} names no file."
    )


@pytest.mark.parametrize("name", ["keys_file", "signing_key_file"])
def test_a_file_that_cannot_be_read_is_named(name: str, files: dict[str, Any], tmp_path: Path) -> None:
    """With its setting; a folder is no file."""
    chosen = {**files, name: tmp_path}

    assert sentence(**chosen) == f"GATEWAY_{name.upper()}: cannot read {tmp_path}: Is a directory."


def test_a_word_that_is_neither_is_refused() -> None:
    """By the settings themselves."""
    with pytest.raises(ValueError, match="'open' or 'keys'"):
        Settings(access="opne")


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/", None),
        ("HEAD", "/static/js/main.js", None),
        ("OPTIONS", "/v1/jobs", None),
        ("GET", "/api/health", None),
        ("POST", "/api/health", KeyScope.WRITE),
        ("GET", "/staticx", KeyScope.READ),
        ("GET", "/v1/docs/other", KeyScope.READ),
        ("GET", "/v1/jobs", KeyScope.READ),
        ("HEAD", "/v1/images/x", KeyScope.READ),
        ("POST", "/v1/masks", KeyScope.WRITE),
        ("DELETE", "/v1/jobs/x", KeyScope.WRITE),
        ("PROPFIND", "/v1/jobs", KeyScope.WRITE),
        ("POST", "/v1/signed-urls", KeyScope.READ),
        ("POST", "/api/clear-cache", KeyScope.ADMIN),
    ],
)
def test_what_a_key_must_be_good_for(method: str, path: str, scope: KeyScope | None) -> None:
    """What is not named asks for a key."""
    assert required_scope(method, path) is scope


def test_no_log_is_written_where_all_is_well(files: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Least of all with a secret in it."""
    caplog.set_level(logging.DEBUG)
    create_authenticator(Settings(**files))

    assert caplog.records == []
