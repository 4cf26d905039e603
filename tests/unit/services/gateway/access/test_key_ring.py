"""API keys: the content of the file, the check of a key, and a file that changes under a running gateway."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from services.gateway import keys
from services.gateway.access.key_file import read_keys
from services.gateway.access.key_format import parse_key_id
from services.gateway.access.key_ring import KeyRing
from services.gateway.access.principal import KeyScope
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READ, WRITE = frozenset({KeyScope.READ}), frozenset({KeyScope.READ, KeyScope.WRITE})


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).timestamp()

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of the keys."""
    return tmp_path / "keys.json"


@pytest.fixture
def clock() -> Clock:
    """Return a clock for the ring."""
    return Clock()


def test_a_key_opens_what_is_its_owners(file: Path, clock: Clock) -> None:
    """It names owner, id and scopes."""
    text = keys.new(file, "alice", WRITE, None)
    principal = KeyRing(file, clock).find(text)

    assert principal is not None
    assert (principal.owner, principal.key_id, principal.scopes) == ("alice", parse_key_id(text), WRITE)
    assert principal.may(KeyScope.WRITE)
    assert not principal.may(KeyScope.ADMIN)


def test_the_file_keeps_no_secret(file: Path) -> None:
    """A copy of the file, for example in a backup, is useless; only the owner may read the file."""
    text = keys.new(file, "alice", READ, None)

    assert text[16:] not in file.read_text()
    assert len(text) == len("am_") + 12 + 1 + 43
    assert file.stat().st_mode & 0o777 == 0o600


WRONG: dict[str, Callable[[str], str]] = {
    "one letter": lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
    "shorter": lambda text: text[:-1],
    "longer": lambda text: f"{text}A",
    "another id": lambda text: f"am_000000000000_{text[16:]}",
    "no key": lambda text: text.upper(),
    "nothing": lambda _: "",
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_anything_else_opens_nothing(file: Path, clock: Clock, change: Callable[[str], str]) -> None:
    """A key with any change is invalid."""
    text = keys.new(file, "alice", READ, None)

    assert KeyRing(file, clock).find(change(text)) is None


def test_a_key_ends_at_its_expiry(file: Path, clock: Clock) -> None:
    """It works until the second of its expiry, and not after."""
    text = keys.new(file, "alice", READ, 1)
    (key,) = read_keys(file).keys
    assert key.expires is not None
    ring = KeyRing(file, clock)
    clock.now = key.expires.timestamp() - 0.001
    before = ring.find(text)
    clock.now = key.expires.timestamp()

    assert before is not None
    assert ring.find(text) is None
    assert ring.find_by_id(key.id) is None


def test_an_owner_has_two_live_keys_at_most(file: Path) -> None:
    """Enough to change keys; an expired one does not count."""
    expired = keys.new(file, "alice", READ, 0)
    first, _second = keys.new(file, "alice", READ, None), keys.new(file, "alice", READ, None)
    with pytest.raises(ConfigError, match="alice has more than 2 live keys"):
        keys.new(file, "alice", READ, None)
    keys.revoke(file, parse_key_id(first))
    keys.new(file, "alice", READ, None)

    assert len(read_keys(file).keys) == 3
    assert parse_key_id(expired) in {key.id for key in read_keys(file).keys}


def test_a_change_of_the_file_counts_within_a_second(file: Path, clock: Clock) -> None:
    """A new key is valid and a revoked one is not, without a restart."""
    old = keys.new(file, "alice", READ, None)
    ring = KeyRing(file, clock)
    new = keys.new(file, "bob", READ, None)
    keys.revoke(file, parse_key_id(old))
    at_once = ring.find(old), ring.find(new)
    clock.now += 1
    later = ring.find(old), ring.find(new)

    assert (at_once[0] is None, at_once[1] is None) == (False, True)
    assert (later[0] is None, later[1] is None) == (True, False)


@pytest.mark.parametrize("content", ["", "{", '{"keys": [{}]}', None])
def test_a_bad_file_changes_nothing_while_it_runs(
    file: Path, clock: Clock, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The last good keys stay valid, and the log has one error."""
    text = keys.new(file, "alice", READ, None)
    ring = KeyRing(file, clock)
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    clock.now += 1
    found = ring.find(text)
    clock.now += 1

    assert found is not None
    assert ring.find(text) == found
    assert [record.getMessage() for record in caplog.records] == ["access.file-refused"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_changed_file_stays_whose_it_was(file: Path) -> None:
    """An operator revokes as root. If the gateway could not read the file then, the key would stay valid."""
    text = keys.new(file, "alice", READ, None)
    os.chown(file, 1234, 2345)
    file.chmod(0o640)
    keys.revoke(file, parse_key_id(text))
    found = file.stat()

    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 2345, 0o640)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("days", ["nan", "inf", "-1e12", "1e12"])
def test_a_time_that_cannot_be_is_refused_in_a_sentence(file: Path, days: str) -> None:
    """And no key is made."""
    with pytest.raises(ConfigError, match=r"A key cannot be valid for .* days[.]"):
        keys.main(["--file", str(file), "new", "alice", f"--days={days}"])

    assert not file.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"owner": "a.b"}, "keys.0.owner"),
        ({"scopes": []}, "keys.0.scopes"),
        ({"scopes": ["all"]}, "keys.0.scopes"),
        ({"sha256": "x"}, "keys.0.sha256"),
        ({"note": "x"}, "keys.0.note"),
    ],
)
def test_a_bad_file_is_explained_in_a_sentence(file: Path, change: dict[str, Any], reason: str) -> None:
    """It names the setting, the file and the field, but no content."""
    keys.new(file, "alice", READ, None)
    stored = json.loads(file.read_text())
    stored["keys"][0] |= change
    file.write_text(json.dumps(stored))
    with pytest.raises(ConfigError) as refusal:
        KeyRing(file)

    assert refusal.value.message.startswith(f"GATEWAY_KEYS_FILE: {file} is not valid: {reason}")
    assert "\n" not in refusal.value.message


def test_a_missing_file_is_explained_too(file: Path) -> None:
    """With its name."""
    with pytest.raises(ConfigError) as refusal:
        KeyRing(file)

    assert refusal.value.message == f"GATEWAY_KEYS_FILE: cannot read {file}: No such file or directory."


def test_a_key_that_leaked_is_revoked_as_it_was_found(file: Path) -> None:
    """Its id need not be cut out; a wrong key is not printed."""
    text = keys.new(file, "alice", READ, None)
    keys.revoke(file, text)
    with pytest.raises(ConfigError) as refusal:
        keys.revoke(file, text)

    assert read_keys(file).keys == ()
    assert refusal.value.message == "No key has this id; `list` shows all."


def test_one_id_belongs_to_one_key(file: Path) -> None:
    """A file that was merged by hand is refused."""
    keys.new(file, "alice", READ, None)
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({"keys": [stored["keys"][0], {**stored["keys"][0], "owner": "bob"}]}))
    with pytest.raises(ConfigError, match="two keys have the id"):
        KeyRing(file)


def test_the_command_makes_lists_and_revokes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key is printed once, the list shows everything but the secret."""
    expiry = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    keys.main(["--file", str(file), "new", "alice", "--scopes", "read,admin", "--days", "30"])
    text = capsys.readouterr().out.strip()
    keys.main(["--file", str(file), "list"])
    listed = capsys.readouterr().out
    keys.main(["--file", str(file), "revoke", parse_key_id(text)])

    assert listed.split()[:4] == [parse_key_id(text), "alice", "admin,read", "live"]
    assert listed.split()[4].startswith(expiry)
    assert text[16:] not in listed
    assert read_keys(file).keys == ()
    with pytest.raises(ConfigError, match="No key has this id"):
        keys.revoke(file, parse_key_id(text))


def test_the_command_keeps_the_files_mode(file: Path) -> None:
    """The gateway may run as another user, with read permission from the operator."""
    keys.new(file, "alice", READ, None)
    file.chmod(0o640)
    keys.new(file, "bob", READ, None)

    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]


def test_an_owner_must_fit_into_a_subject(file: Path) -> None:
    """It becomes the user of jobs."""
    with pytest.raises(ConfigError, match="letters, digits"):
        keys.new(file, "alice smith", READ, None)

    assert not file.exists()
