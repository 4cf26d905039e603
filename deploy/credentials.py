"""Make the keys, certificates and users of a broker that lets in nobody else: `python -m deploy.credentials OUT`.

    OUT/ca.crt                            for everybody: by it the broker is known             (NATS_CA_FILE)
    OUT/ca.key                            for nobody: keep it off the servers
    OUT/<service>/nats.nk                 for that service: who it is                          (NATS_NKEY_FILE)
    OUT/nats/                             for the broker, which is started in this folder
        nats-server.conf, nats-cluster.conf, users.conf, ca.crt, server.crt, server.key
    OUT/operator/                         for whoever runs `nats`, with XDG_CONFIG_HOME set to this folder
        nats.nk, system.nk, nats/context/{artmancer,artmancer-system}.json

Run again, it keeps every key, and writes anew what follows from the keys and from the code: the users with their
permissions, a certificate that is near its end. `--rotate NAME` replaces the keys of one. With `--for-containers` OUT
itself is closed to others instead of each file in it, which then can be read by whatever user a container has.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import nkeys

from deploy import certificates
from deploy.accounts import STORE, Passage, account_of, passages
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
_FORGET = "10s"  # after the last of many answers; they come within the 2 s that we wait, or with heartbeats


class Folder:
    """The folder of all credentials, and what has been written to it."""

    def __init__(self, root: Path, rotate: set[str], *, for_containers: bool) -> None:
        """`rotate` names whose keys are replaced."""
        self.root = root
        self.private = _PUBLIC if for_containers else _PRIVATE
        self.written: list[Path] = []
        self._rotate = rotate

    def seed(self, owner: str, name: str = SEED) -> str:
        """Return the public key of an owner's seed, which is made where there is none."""
        path = self.root / owner / name
        if owner in self._rotate or not path.exists():
            mode = _PRIVATE if owner == OPERATOR else self.private  # no container is an operator
            self.write(path, nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER) + b"\n", mode)
        return str(nkeys.from_seed(bytearray(path.read_bytes().strip())).public_key.decode())

    def key(self, path: Path, owner: str = "") -> bytes:
        """Return a private key for TLS, which is made where there is none; without an owner it is the authority's."""
        if owner in self._rotate or not path.exists():
            self.write(path, certificates.new_key(), self.private if owner else _PRIVATE)
        return path.read_bytes()

    def write(self, path: Path, content: bytes, mode: int = _PUBLIC) -> None:
        """Put a file in its place, whole, where it is not there already."""
        if path.exists() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
        beside.rename(path)
        self.written.append(path)


def make(
    root: Path, *, hosts: tuple[str, ...] = (), rotate: frozenset[str] = frozenset(), for_containers: bool = False
) -> list[Path]:
    """Bring the folder up to date; returns the files that are new. Raises ConfigError."""
    folder = Folder(root, set(rotate), for_containers=for_containers)
    try:
        if for_containers:
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(_CLOSED)
        _certify(folder, tuple(dict.fromkeys((*HOSTS, *hosts))))
        _admit(folder)
        _equip_operator(folder)
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written or read: {error.strerror}.") from error
    except (ValueError, nkeys.NkeysError) as error:
        raise ConfigError(f"A file in {root} is no key or certificate of ours; move the folder away.") from error
    return folder.written


def _certify(folder: Folder, hosts: tuple[str, ...]) -> None:
    broker = folder.root / BROKER
    authority_key = folder.key(folder.root / "ca.key")
    certificate = folder.root / "ca.crt"
    if not certificate.exists():
        folder.write(certificate, certificates.authority(authority_key))
    authority = certificate.read_bytes()
    key, shown = folder.key(broker / "server.key", BROKER), broker / "server.crt"
    if not (shown.exists() and certificates.serves(shown.read_bytes(), key, hosts, authority)):
        folder.write(shown, certificates.server(key, hosts, authority, authority_key))
    folder.write(broker / "ca.crt", authority)


def _admit(folder: Folder) -> None:
    """Write who may connect, and the configurations that include it."""
    accounts = dict.fromkeys((STORE, *sorted(map(account_of, DUTIES))), "")
    accounts[STORE] = _OPERATOR.format(key=folder.seed(OPERATOR))
    for service in sorted(DUTIES):
        accounts[account_of(service)] += _service(folder.seed(service), service)
    text = "".join(_account(name, users) for name, users in accounts.items())
    users = _USERS.format(system=folder.seed(OPERATOR, SYSTEM_SEED), accounts=text)
    folder.write(folder.root / BROKER / "users.conf", users.encode())
    for name in CONFIGURATIONS:
        folder.write(folder.root / BROKER / name, (HERE / name).read_bytes())


def _account(name: str, users: str) -> str:
    offered: dict[str, list[Passage]] = {}
    for passage in passages():
        if passage.giver == name:
            offered.setdefault(passage.subject, []).append(passage)
    exports = "".join(f"\n      {_export(takers)}" for takers in offered.values())
    imports = "".join(f"\n      {_import(passage)}" for passage in passages() if passage.taker == name)
    jetstream = "\n    jetstream: enabled" if name == STORE else ""
    return _ACCOUNT.format(name=name, jetstream=jetstream, users=users, exports=exports, imports=imports)


def _export(takers: list[Passage]) -> str:
    kind = "service" if takers[0].is_question else "stream"
    many = f", response_type: Stream, threshold: {_FORGET}" if takers[0].has_many_answers else ""
    accounts = ", ".join(taker.taker for taker in takers)
    return f"{{ {kind}: {json.dumps(takers[0].subject)}, accounts: [{accounts}]{many} }}"


def _import(passage: Passage) -> str:
    kind = "service" if passage.is_question else "stream"
    return f"{{ {kind}: {{ account: {passage.giver}, subject: {json.dumps(passage.subject)} }} }}"


def _service(public_key: str, service: str) -> str:
    allowed = permissions(service)
    return _SERVICE.format(
        service=service, key=public_key, publish=_listed(allowed.publish), subscribe=_listed(allowed.subscribe)
    )


def _listed(allowed: tuple[str, ...]) -> str:
    return "".join(f"\n          {json.dumps(subject)}" for subject in allowed)


def _equip_operator(folder: Folder) -> None:
    """Write the two contexts of the nats command: one for what is ours, one for the broker itself."""
    home = (folder.root / OPERATOR).resolve()
    for name, seed in (("artmancer", SEED), ("artmancer-system", SYSTEM_SEED)):
        context = {
            "description": "ArtMancer" if seed == SEED else "The broker of ArtMancer",
            "url": "tls://127.0.0.1:4222",
            "nkey": str(home / seed),
            "ca": str((folder.root / "ca.crt").resolve()),
            "tls_first": True,
            "inbox_prefix": subjects.inbox_prefix(OPERATOR),
        }
        folder.write(home / f"nats/context/{name}.json", json.dumps(context, indent=2).encode() + b"\n")
    folder.write(home / "nats/context.txt", b"artmancer")


_USERS = """\
# Written by deploy/credentials.py; run it again rather than change this by hand. The broker reads it anew on SIGHUP.
# Who has no key is not let in: no user here is anonymous.
system_account: SYS
accounts {{
  SYS {{ users: [ {{ nkey: {system} }} ] }} # operators: what the broker tells of itself{accounts}
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
    """Do what the command line says."""
    names = (BROKER, OPERATOR, *sorted(DUTIES))
    parser = argparse.ArgumentParser(prog="python -m deploy.credentials", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder for all of them")
    parser.add_argument("--host", action="append", default=[], help=f"one more name of the broker beside {HOSTS}")
    parser.add_argument("--rotate", action="append", default=[], choices=names, help="replace the keys of this one")
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
