"""Create the keys, certificates and users of a broker with authentication: `python -m deploy.credentials OUT`.

    OUT/ca.crt                            all clients: verifies the broker's certificate       (NATS_CA_FILE)
    OUT/ca.key                            secret of the certificate authority: keep it off the servers
    OUT/<service>/nats.nk                 secret of that service: authenticates it             (NATS_NKEY_FILE)
    OUT/nats/                             working directory of the broker
        nats-server.conf, nats-cluster.conf, users.conf, ca.crt, server.crt, server.key
    OUT/operator/                         for operators: run `nats` with XDG_CONFIG_HOME set to this folder
        nats.nk, system.nk, nats/context/{artmancer,artmancer-system}.json
        container/nats/context/...        the same for the container `tools` of compose.yaml

A second run keeps all keys and updates the files that follow from them and from the code: users, permissions, and a
certificate that expires soon. `--rotate NAME` replaces the keys of one owner. `--for-containers` closes OUT itself
instead of each file in it, so that any user of a container can read the mounted files.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import nkeys

from deploy import certificates
from deploy.accounts import STORE, AccountImport, account_imports, account_of
from deploy.permissions import DUTIES, OPERATOR, permissions
from shared import subjects
from shared.errors import EXIT_CONFIG, ConfigError

HERE = Path(__file__).parent
CONFIGURATIONS = ("nats-server.conf", "nats-cluster.conf")
HOSTS = ("nats", "localhost", "127.0.0.1")
BROKER = "nats"
SEED, SYSTEM_SEED = "nats.nk", "system.nk"
_PRIVATE, _PUBLIC = 0o600, 0o644
_CLOSED = 0o700
_RESPONSE_THRESHOLD = (
    "10s"  # after the last of several replies; a client waits at most 2 s for the next reply or heartbeat
)


class Folder:
    """The folder of all credentials; `written` lists the files that changed."""

    def __init__(self, root: Path, rotate: set[str], *, for_containers: bool) -> None:
        """`rotate` lists the owners that get new keys."""
        self.root = root
        self.key_mode = _PUBLIC if for_containers else _PRIVATE
        self.written: list[Path] = []
        self._rotate = rotate

    def public_key(self, owner: str, name: str = SEED) -> str:
        """Return the public key of an owner; create the seed if there is none."""
        path = self.root / owner / name
        if owner in self._rotate or not path.exists():
            mode = _PRIVATE if owner == OPERATOR else self.key_mode  # the operators' container runs as their own user
            self.write(path, nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER) + b"\n", mode)
        return str(nkeys.from_seed(bytearray(path.read_bytes().strip())).public_key.decode())

    def private_key(self, path: Path, owner: str = "") -> bytes:
        """Return a private TLS key; create it if there is none. Without an owner it is the key of the authority."""
        if owner in self._rotate or not path.exists():
            self.write(path, certificates.new_key(), self.key_mode if owner else _PRIVATE)
        return path.read_bytes()

    def write(self, path: Path, content: bytes, mode: int = _PUBLIC) -> None:
        """Write a file atomically, unless it has this content already."""
        if path.exists() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_file(path, content, mode)
        self.written.append(path)


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file atomically; it has this mode before it has content."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    beside.rename(path)


def make(
    root: Path, *, hosts: tuple[str, ...] = (), rotate: frozenset[str] = frozenset(), for_containers: bool = False
) -> list[Path]:
    """Update the folder and return the files that changed. Raises ConfigError."""
    folder = Folder(root, set(rotate), for_containers=for_containers)
    try:
        if for_containers:
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(_CLOSED)
        _write_certificates(folder, tuple(dict.fromkeys((*HOSTS, *hosts))))
        _write_users(folder)
        _write_operator_contexts(folder)
    except OSError as error:
        raise ConfigError(f"Cannot read or write {error.filename}: {error.strerror}.") from error
    except (ValueError, nkeys.NkeysError) as error:
        raise ConfigError(
            f"{root} holds a file that is not a key or certificate from this program; move the folder away."
        ) from error
    return folder.written


def _write_certificates(folder: Folder, hosts: tuple[str, ...]) -> None:
    broker = folder.root / BROKER
    authority_key = folder.private_key(folder.root / "ca.key")
    certificate = folder.root / "ca.crt"
    if not certificate.exists():
        folder.write(certificate, certificates.authority(authority_key))
    authority = certificate.read_bytes()
    key, certificate_file = folder.private_key(broker / "server.key", BROKER), broker / "server.crt"
    if not (certificate_file.exists() and certificates.serves(certificate_file.read_bytes(), key, hosts, authority)):
        folder.write(certificate_file, certificates.server(key, hosts, authority, authority_key))
    folder.write(broker / "ca.crt", authority)


def _write_users(folder: Folder) -> None:
    """Write users.conf and the server configurations that include it."""
    accounts = dict.fromkeys((STORE, *sorted(map(account_of, DUTIES))), "")
    accounts[STORE] = _OPERATOR.format(key=folder.public_key(OPERATOR))
    for service in sorted(DUTIES):
        accounts[account_of(service)] += _service(folder.public_key(service), service)
    text = "".join(_account(name, users) for name, users in accounts.items())
    users = _USERS.format(system=folder.public_key(OPERATOR, SYSTEM_SEED), accounts=text)
    folder.write(folder.root / BROKER / "users.conf", users.encode())
    for name in CONFIGURATIONS:
        folder.write(folder.root / BROKER / name, (HERE / name).read_bytes())


def _account(name: str, users: str) -> str:
    offered: dict[str, list[AccountImport]] = {}
    for account_import in account_imports():
        if account_import.exporter == name:
            offered.setdefault(account_import.subject, []).append(account_import)
    exports = "".join(f"\n      {_export(importers)}" for importers in offered.values())
    imports = "".join(
        f"\n      {_import(account_import)}" for account_import in account_imports() if account_import.importer == name
    )
    jetstream = "\n    jetstream: enabled" if name == STORE else ""
    return _ACCOUNT.format(name=name, jetstream=jetstream, users=users, exports=exports, imports=imports)


def _export(importers: list[AccountImport]) -> str:
    kind = "service" if importers[0].is_request else "stream"
    many = f", response_type: Stream, threshold: {_RESPONSE_THRESHOLD}" if importers[0].has_many_replies else ""
    accounts = ", ".join(importer.importer for importer in importers)
    return f"{{ {kind}: {json.dumps(importers[0].subject)}, accounts: [{accounts}]{many} }}"


def _import(account_import: AccountImport) -> str:
    kind = "service" if account_import.is_request else "stream"
    return f"{{ {kind}: {{ account: {account_import.exporter}, subject: {json.dumps(account_import.subject)} }} }}"


def _service(public_key: str, service: str) -> str:
    allowed = permissions(service)
    return _SERVICE.format(
        service=service,
        key=public_key,
        publish=_format_list(allowed.publish),
        subscribe=_format_list(allowed.subscribe),
    )


def _format_list(allowed: tuple[str, ...]) -> str:
    return "".join(f"\n          {json.dumps(subject)}" for subject in allowed)


def _write_operator_contexts(folder: Folder) -> None:
    """Write two contexts for the `nats` command, for our account and the system account: on a host, in a container."""
    home = (folder.root / OPERATOR).resolve()
    authority = (folder.root / "ca.crt").resolve()
    _write_contexts(folder, home, "tls://127.0.0.1:4222", home, authority)
    _write_contexts(folder, home / "container", "tls://nats:4222", Path("/run/operator"), Path("/run/secrets/ca.crt"))


def _write_contexts(folder: Folder, configuration: Path, url: str, seeds: Path, authority: Path) -> None:
    for name, seed in (("artmancer", SEED), ("artmancer-system", SYSTEM_SEED)):
        context = {
            "description": "ArtMancer" if seed == SEED else "The broker of ArtMancer",
            "url": url,
            "nkey": str(seeds / seed),
            "ca": str(authority),
            "tls_first": True,
            "inbox_prefix": subjects.inbox_prefix(OPERATOR),
        }
        folder.write(configuration / f"nats/context/{name}.json", json.dumps(context, indent=2).encode() + b"\n")
    folder.write(configuration / "nats/context.txt", b"artmancer")


_USERS = """\
# Written by deploy/credentials.py: run it again instead of editing this file. SIGHUP makes the broker reload it.
# No user is anonymous: a client without a key is refused.
system_account: SYS
accounts {{
  SYS {{ users: [ {{ nkey: {system} }} ] }} # operators: the broker's own events and state{accounts}
}}
"""
_ACCOUNT = """
  {name} {{{jetstream}
    users: [{users}
    ]
    exports: [{exports}
    ]
    imports: [{imports}
    ]
  }}"""
_OPERATOR = """
      {{ nkey: {key} }} # operators: everything"""
_SERVICE = """
      {{ # {service}
        nkey: {key}
        permissions {{
          publish {{ allow: [{publish}
          ] }}
          subscribe {{ allow: [{subscribe}
          ] }}
        }}
      }}"""


def main(arguments: list[str]) -> None:
    """Run the command and print the files that changed."""
    names = (BROKER, OPERATOR, *sorted(DUTIES))
    parser = argparse.ArgumentParser(prog="python -m deploy.credentials", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder for all files")
    parser.add_argument("--host", action="append", default=[], help=f"another host name of the broker, besides {HOSTS}")
    parser.add_argument("--rotate", action="append", default=[], choices=names, help="replace the keys of this owner")
    parser.add_argument("--for-containers", action="store_true", help="close the folder instead of each file in it")
    given = parser.parse_args(arguments)
    hosts, rotate = tuple(given.host), frozenset(given.rotate)
    for path in make(given.out, hosts=hosts, rotate=rotate, for_containers=given.for_containers):
        print(path)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        sys.exit(EXIT_CONFIG)
