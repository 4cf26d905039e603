"""Create the two secrets of the gateway in compose.yaml: `python -m deploy.access OUT`.

    OUT/signing.key   signs URLs of images and event streams    (GATEWAY_SIGNING_KEY_FILE)
    OUT/keys.json     the API keys, as hashes                   (GATEWAY_KEYS_FILE)

The first API key has all scopes and is printed once. Files that exist are kept.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from services.gateway import keys
from shared.errors import EXIT_CONFIG, ConfigError

_READABLE = 0o644  # the container's user must read them; other users cannot enter the parent folder of OUT


def make(root: Path) -> None:
    """Create the files that are missing. Raises ConfigError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot write {root}: {error.strerror}.") from error
    signing, ring = root / "signing.key", root / "keys.json"
    if not signing.exists():
        keys.main(["signing-key", str(signing)])
        signing.chmod(_READABLE)
    if not ring.exists():
        keys.main(["--file", str(ring), "new", "operator", "--scopes", "read,write,admin"])
        ring.chmod(_READABLE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m deploy.access", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help="folder for both files")
    try:
        make(parser.parse_args().out)
    except ConfigError as error:
        print(error.message, file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_CONFIG)
