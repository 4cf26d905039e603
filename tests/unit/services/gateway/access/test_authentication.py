"""The settings that decide about API keys, and the check of keys and signatures."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import PosixPath
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway import keys
from services.gateway.access.authentication import Authenticator, create_authenticator
from services.gateway.access.authorization import required_scope
from services.gateway.access.key_ring import KeyRing
from services.gateway.access.principal import KeyScope
from services.gateway.access.signed_urls import Signer
from services.gateway.settings import Settings
from shared.errors import ConfigError

if TYPE_CHECKING:
    import os
    from pathlib import Path

NEAR = ("127.0.0.1", "127.8.9.1", "::1", "localhost")
FAR = ("0.0.0.0", "::", "10.1.2.3", "gateway.internal", "")  # noqa: S104


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Return settings that name a file of keys and a file of secrets."""
    keys.new(tmp_path / "keys.json", "alice", frozenset({KeyScope.READ}), None)
    keys.main(["signing-key", str(tmp_path / "secret")])
    return {"keys_file": tmp_path / "keys.json", "signing_key_file": tmp_path / "secret"}


def sentence(**settings: Any) -> str:
    """Return the sentence with which the gateway refuses to start."""
    with pytest.raises(ConfigError) as refusal:
        create_authenticator(Settings(**settings))
    return refusal.value.message


@pytest.mark.parametrize("host", NEAR)
def test_a_laptop_is_open_to_itself(host: str) -> None:
    """No other machine can connect."""
    assert create_authenticator(Settings(host=host)) is None


@pytest.mark.parametrize("host", FAR)
def test_nobody_is_let_in_by_oversight(host: str) -> None:
    """An address that other machines can reach, without a setting for access: refused, with both ways out."""
    assert sentence(host=host) == (
        f"Other machines can reach {host}: set GATEWAY_KEYS_FILE to a file of API keys, "
        "or GATEWAY_ACCESS=open to allow requests without a key."
    )


@pytest.mark.parametrize("host", FAR)
def test_everybody_is_let_in_where_somebody_says_so(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """GATEWAY_ACCESS=open is enough, and the log has a warning."""
    assert create_authenticator(Settings(host=host, access="open")) is None
    assert [record.getMessage() for record in caplog.records] == ["access.open"]


@pytest.mark.parametrize("host", [*NEAR, *FAR])
def test_who_has_keys_is_asked_for_them(host: str, files: dict[str, Any]) -> None:
    """Also on loopback: a proxy may be in front."""
    assert create_authenticator(Settings(host=host, **files)) is not None


def test_open_is_open(files: dict[str, Any]) -> None:
    """The setting counts more than the files."""
    assert create_authenticator(Settings(access="open", **files)) is None


@pytest.mark.parametrize("name", ["keys_file", "signing_key_file"])
def test_half_of_it_is_not_enough(name: str, files: dict[str, Any]) -> None:
    """The sentence names the setting that is missing."""
    left = {**files, name: None}

    assert sentence(access="keys", **left) == (f"API keys are required: set GATEWAY_{name.upper()} to a file.")


@pytest.mark.parametrize("name", ["keys_file", "signing_key_file"])
def test_a_file_that_cannot_be_read_is_named(name: str, files: dict[str, Any], tmp_path: Path) -> None:
    """With its setting; a folder cannot be read as a file."""
    chosen = {**files, name: tmp_path}

    assert sentence(**chosen) == f"GATEWAY_{name.upper()}: cannot read {tmp_path}: Is a directory."


def test_a_word_that_is_neither_is_refused() -> None:
    """The settings refuse it themselves."""
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
    """An unlisted address requires a key."""
    assert required_scope(method, path) is scope


# --- files that change --------------------------------------------------------------------------------------------


class CountedPath(PosixPath):
    """A path that counts how often its file was checked for a change."""

    checks = 0

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Count, and answer as any path does."""
        self.checks += 1
        return super().stat(follow_symlinks=follow_symlinks)


@pytest.fixture
def running(files: dict[str, Any]) -> Authenticator:
    """Make the authenticator of a gateway that has just read its files."""
    authenticator = create_authenticator(Settings(**files))
    assert authenticator is not None
    return authenticator


async def identify(authenticator: Authenticator, key: str) -> tuple[str, str]:
    """Return owner and refusal of a request with this key."""
    principal, refusal = await authenticator.identify("GET", "/v1/jobs", "", [f"Bearer {key}"])
    return principal.owner, refusal


async def test_a_new_key_opens_at_once(running: Authenticator, files: dict[str, Any]) -> None:
    """The gateway read its file a moment before the key was made."""
    new = keys.new(files["keys_file"], "bob", frozenset({KeyScope.READ}), None)

    assert await identify(running, new) == ("bob", "")


async def test_a_key_that_takes_another_ones_place_ends_it_at_once(
    running: Authenticator, files: dict[str, Any]
) -> None:
    """The check for the new key also finds that the old one is gone."""
    old = keys.new(files["keys_file"], "bob", frozenset({KeyScope.READ}), None)
    before = await identify(running, old)
    keys.revoke(files["keys_file"], old)
    new = keys.new(files["keys_file"], "bob", frozenset({KeyScope.READ}), None)

    assert before == ("bob", "")
    assert await identify(running, new) == ("bob", "")
    assert await identify(running, old) == ("", "The API key is unknown, revoked or expired.")


async def test_a_flood_of_unknown_keys_does_not_read_the_file_more_often(files: dict[str, Any]) -> None:
    """All of them wait for the same check; a text that is not a key causes none."""
    path = CountedPath(files["keys_file"])
    authenticator = create_authenticator(Settings(**files | {"keys_file": path}))
    assert authenticator is not None
    authenticator = replace(authenticator, keys=KeyRing(path))
    before = path.checks
    flood = [f"am_{number:012x}_{'A' * 43}" for number in range(500)]
    answers = await asyncio.gather(*(identify(authenticator, key) for key in flood))
    checks = path.checks - before
    await identify(authenticator, "no key")

    assert set(answers) == {("", "The API key is unknown, revoked or expired.")}
    assert 1 <= checks <= 3  # more than one only if a loaded machine takes a second for all this
    assert path.checks - before == checks


async def test_a_replica_that_knows_the_new_secret_first_is_believed(
    running: Authenticator, files: dict[str, Any]
) -> None:
    """The signing secret was replaced, and the other gateway has already signed with the new one."""
    key = keys.new(files["keys_file"], "alice", frozenset({KeyScope.READ}), None)
    principal, _ = await running.identify("GET", "/v1/jobs", "", [f"Bearer {key}"])
    files["signing_key_file"].write_text("n" * 43)
    path = "/v1/jobs/j1/events"
    url, _ = Signer(files["signing_key_file"], 300).sign(principal, path)
    found, refusal = await running.identify("GET", path, url.partition("?")[2], [])

    assert (found.owner, refusal) == ("alice", "")


async def test_a_signature_by_a_new_key_opens_at_once(running: Authenticator, files: dict[str, Any]) -> None:
    """Another replica has read the file of keys a moment earlier."""
    new = keys.new(files["keys_file"], "bob", frozenset({KeyScope.READ}), None)
    principal = KeyRing(files["keys_file"]).find(new)
    assert principal is not None
    path = "/v1/jobs/j1/events"
    url, _ = Signer(files["signing_key_file"], 300).sign(principal, path)
    found, refusal = await running.identify("GET", path, url.partition("?")[2], [])

    assert (found.owner, refusal) == ("bob", "")


def test_no_log_is_written_where_all_is_well(files: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """And so no log line with a secret."""
    caplog.set_level(logging.DEBUG)
    create_authenticator(Settings(**files))

    assert caplog.records == []
