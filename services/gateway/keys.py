"""Manage API keys: `python -m services.gateway.keys new|list|revoke|signing-key`.

A running gateway accepts a new key at once and refuses a revoked one within a second.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import shutil
import sys
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.gateway.access.key_file import Key, KeyFile, generate_key, read_keys
from services.gateway.access.key_format import parse_key_id
from services.gateway.access.principal import KeyScope
from shared.errors import EXIT_CONFIG, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class KeysSettings(BaseSettings):
    """The gateway's setting for the file of keys."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True)

    keys_file: Path | None = Field(default=None)


def main(arguments: Sequence[str]) -> None:
    """Run one command. Raises ConfigError."""
    given = _parser().parse_args(arguments)
    if given.command == "signing-key":
        _write(given.file, secrets.token_urlsafe(32) + "\n", new=True)
        return
    file = given.file or KeysSettings().keys_file
    if file is None:
        raise ConfigError("Set GATEWAY_KEYS_FILE or give --file.")
    match given.command:
        case "new":
            print(new(file, given.owner, given.scopes, given.days))
        case "revoke":
            revoke(file, given.id)
        case _:
            for key in read_keys(file).keys:
                print(_line(key, datetime.now(UTC)))


def new(file: Path, owner: str, key_scopes: frozenset[KeyScope], days: float | None) -> str:
    """Add a key and return it; it is stored nowhere and cannot be shown again. Raises ConfigError."""
    expires = None if days is None else _expiry(days)
    with _lock(file):
        known = read_keys(file) if file.exists() else KeyFile()
        try:
            text, key = generate_key(owner, key_scopes, expires)
        except ValidationError:
            raise ConfigError("An owner has 1 to 64 letters, digits, dashes and underscores.") from None
        keys = KeyFile(keys=(*known.keys, key))
        if problem := keys.problem(datetime.now(UTC)):
            raise ConfigError(f"No key was made: {problem}.")
        _write(file, keys.model_dump_json(indent=2, exclude_none=True) + "\n")
    return text


def _expiry(days: float) -> datetime:
    try:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    except (ValueError, OverflowError):
        raise ConfigError(f"A key cannot be valid for {days:g} days.") from None


def revoke(file: Path, key_id: str) -> None:
    """Remove a key, named by its id or by the whole key. Raises ConfigError."""
    key_id = parse_key_id(key_id) or key_id
    with _lock(file):
        known = read_keys(file)
        left = tuple(key for key in known.keys if key.id != key_id)
        if len(left) == len(known.keys):
            raise ConfigError("No key has this id; `list` shows all.")
        _write(file, KeyFile(keys=left).model_dump_json(indent=2, exclude_none=True) + "\n")


def _line(key: Key, now: datetime) -> str:
    state = "live" if key.is_live(now) else "expired"
    until = key.expires.isoformat() if key.expires else "forever"
    return f"{key.id}  {key.owner:<20} {','.join(sorted(key.scopes)):<16} {state:<8} {until}"


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Let one command at a time change the file. It locks the folder, because the file itself is replaced."""
    try:
        folder = os.open(file.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"Cannot write {file}: {error.strerror}.") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(file: Path, text: str, *, new: bool = False) -> None:
    """Write the file atomically; a new one is readable by its owner only."""
    if new and file.exists():
        raise ConfigError(f"{file} already exists.")
    try:
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}-", delete=False) as draft:
            draft.write(text)
        try:
            if file.exists():
                _copy_permissions(draft.name, file)
            Path(draft.name).replace(file)
        finally:
            Path(draft.name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot write {file}: {error.strerror}.") from None


def _copy_permissions(draft: str, file: Path) -> None:
    """Give the draft the mode, owner and group of the file: the gateway may run as another user."""
    current = file.stat()
    os.chown(draft, current.st_uid, current.st_gid)
    shutil.copymode(file, draft)


def scopes(text: str) -> frozenset[KeyScope]:
    """Parse the scopes of the command line. Raises ValueError."""
    return frozenset(KeyScope(word) for word in text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.gateway.keys", description=__doc__)
    parser.add_argument("--file", type=Path, help="the file of keys (default: GATEWAY_KEYS_FILE)")
    commands = parser.add_subparsers(dest="command", required=True)
    creation = commands.add_parser("new", help="make a key and print it, once")
    creation.add_argument("owner", help="the owner of the jobs and images that it opens")
    creation.add_argument("--scopes", type=scopes, default="read,write", help="of read, write, admin (%(default)s)")
    creation.add_argument("--days", type=float, help="days that it is valid (default: until it is revoked)")
    commands.add_parser("list", help="show all keys")
    commands.add_parser("revoke", help="remove a key").add_argument("id")
    signing = commands.add_parser("signing-key", help="write a new secret for signed URLs into a file")
    signing.add_argument("file", type=Path)
    return parser


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        sys.exit(EXIT_CONFIG)
