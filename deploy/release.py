"""Set registry and version of all images in the Kubernetes overlays: `python -m deploy.release REGISTRY VERSION`.

`kustomize edit set image` sets one image at a time, and drops its tag if it gets only a registry. With `--digests FILE`
each image is pinned to its content too; its lines are `REGISTRY/NAME:TAG ANY@sha256:DIGEST`.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OVERLAYS = Path(__file__).parent / "kubernetes/overlays"
_IMAGE = re.compile(
    r"- \{name: artmancer/(?P<name>\w+),(?: newName: [^,]+,)? newTag: [^},]*?(?P<cuda>-cuda)?(?:, digest: [^}]+)?\}"
)
_VERSION = re.compile(r"(?<=app\.kubernetes\.io/version: )[^}\s]+")
_REGISTRY, _TAG = re.compile(r"[a-z0-9][a-z0-9._:/-]*[a-z0-9]"), re.compile(r"[a-z0-9]([a-z0-9.-]{0,40}[a-z0-9])?")
_DIGEST = re.compile(r"(?P<image>\S+) \S+@(?P<digest>sha256:[0-9a-f]{64})")


def read_digests(lines: Sequence[str]) -> dict[str, str]:
    """Return the digest of each image, by registry, name and tag. Raises ValueError."""
    found = {}
    for line in filter(None, (line.strip() for line in lines)):
        read = _DIGEST.fullmatch(line)
        if read is None:
            raise ValueError(f"{line!r} does not name an image and its digest; docs/kubernetes.md has the command.")
        found[read["image"]] = read["digest"]
    return found


def set_release(text: str, registry: str, version: str, digests: Mapping[str, str] | None = None) -> str:
    """Return an overlay's kustomization.yaml with registry, version and any digests. Raises ValueError."""
    if not _REGISTRY.fullmatch(registry):
        raise ValueError(f"{registry!r} is not a registry; give for example registry.example.org/artmancer.")
    if not _TAG.fullmatch(version):
        raise ValueError(f"{version!r} cannot be in the name of a job; use small letters, digits, dots and dashes.")

    def pin(found: re.Match[str]) -> str:
        """Return the line of one image."""
        name, tag = f"{registry}/{found['name']}", f"{version}{found['cuda'] or ''}"
        line = f"- {{name: artmancer/{found['name']}, newName: {name}, newTag: {tag}"
        if digests is None:
            return f"{line}}}"
        if f"{name}:{tag}" not in digests:
            raise ValueError(f"The file has no digest of {name}:{tag}; push that image, then write the file again.")
        return f"{line}, digest: {digests[f'{name}:{tag}']}}}"

    return _VERSION.sub(version, _IMAGE.sub(pin, text))


def main(arguments: Sequence[str]) -> int:
    """Change all overlays or, after an error, none; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description=__doc__)
    parser.add_argument("registry")
    parser.add_argument("version")
    parser.add_argument("--digests", type=Path, help="a file with the digests of the pushed images")
    parser.add_argument("--overlays", type=Path, default=OVERLAYS, help="the folder of the overlays")
    given = parser.parse_args(arguments)
    try:
        digests = None if given.digests is None else read_digests(given.digests.read_text().splitlines())
        files = sorted(given.overlays.glob("*/kustomization.yaml"))
        texts = [set_release(file.read_text(), given.registry, given.version, digests) for file in files]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
