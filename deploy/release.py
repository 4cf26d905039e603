"""Set registry and version of all images in the Kubernetes overlays: `python -m deploy.release REGISTRY VERSION`.

`kustomize edit set image` sets one image at a time, and drops its tag where it is given a registry alone.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

OVERLAYS = Path(__file__).parent / "kubernetes/overlays"
_IMAGE = re.compile(r"- \{name: artmancer/(?P<name>\w+),(?: newName: [^,]+,)? newTag: [^},]*?(?P<cuda>-cuda)?\}")
_VERSION = re.compile(r"(?<=app\.kubernetes\.io/version: )[^}\s]+")
_REGISTRY, _TAG = re.compile(r"[a-z0-9][a-z0-9._:/-]*[a-z0-9]"), re.compile(r"[a-z0-9]([a-z0-9.-]{0,40}[a-z0-9])?")


def set_release(overlay: Path, registry: str, version: str) -> None:
    """Write registry and version into an overlay's kustomization.yaml. Raises ValueError."""
    if not _REGISTRY.fullmatch(registry):
        raise ValueError(f"{registry!r} is not a registry; give for example registry.example.org/artmancer.")
    if not _TAG.fullmatch(version):
        raise ValueError(f"{version!r} cannot be in the name of a job; use small letters, digits, dots and dashes.")
    path = overlay / "kustomization.yaml"
    text = _IMAGE.sub(
        lambda found: (
            f"- {{name: artmancer/{found['name']}, newName: {registry}/{found['name']}, "
            f"newTag: {version}{found['cuda'] or ''}}}"
        ),
        path.read_text(),
    )
    path.write_text(_VERSION.sub(version, text))


def main(arguments: Sequence[str]) -> int:
    """Change all overlays; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description=__doc__)
    parser.add_argument("registry")
    parser.add_argument("version")
    given = parser.parse_args(arguments)
    try:
        for overlay in sorted(OVERLAYS.iterdir()):
            set_release(overlay, given.registry, given.version)
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
