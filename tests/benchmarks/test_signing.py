"""The processor time and the bytes of a C2PA signature, beside a SHA-256 of the same file."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from deploy.signing_certificate import make_pair
from services.imageutils.signing import ManifestSigner, Origin
from shared.image_codec import encode_jpeg, encode_png
from shared.source_types import SourceType
from tests.benchmarks.test_edit import SIZES, enlarged_photo, median_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.benchmarks.measuring.meter import Table

SMALL_MS, LARGE_MS, MANIFEST_BYTES = 10.0, 60.0, 6_000


def make_noise() -> bytes:
    """Return a PNG of 20 MB."""
    return encode_png(np.random.default_rng(1).integers(0, 256, (2580, 2580, 3), np.uint8))


FILES: dict[str, tuple[str, Callable[[], bytes], float]] = {
    "PNG, 1 MP": ("image/png", lambda: encode_png(enlarged_photo(SIZES[1])), SMALL_MS),
    "JPEG, 1 MP": ("image/jpeg", lambda: encode_jpeg(enlarged_photo(SIZES[1]), 92), SMALL_MS),
    "PNG, 20 MB": ("image/png", make_noise, LARGE_MS),
}


@pytest.mark.parametrize("name", FILES)
def test_a_signature(table: Table, tmp_path: Path, name: str) -> None:
    """Without a manifest of the upload."""
    files = tmp_path / "signing.crt", tmp_path / "signing.key"
    for path, content in zip(files, make_pair(), strict=True):
        path.write_bytes(content)
    signer = ManifestSigner.open(*files)
    assert signer is not None
    content_type, make, target_ms = FILES[name]
    data, origin = make(), Origin(output="a" * 64, receipt="b" * 64, source_type=SourceType.COMPOSITE)
    signed = signer.sign(data, content_type, origin)
    assert signed is not None
    figure_ms = median_ms(lambda: signer.sign(data, content_type, origin), time.process_time)
    hash_ms = median_ms(lambda: hashlib.sha256(data).digest(), time.process_time)

    table.row(f"signing a {name}", figure_ms, "ms", target=target_ms, baseline=hash_ms)
    table.row(f"manifest of a {name}", (len(signed) - len(data)) / 1000, "kB", target=MANIFEST_BYTES / 1000)
