"""MODEL_DIR with a trained tiny FastSAM and a stand-in for BiRefNet, as `python -m services.models pull` leaves it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.segmentation.settings import Settings
from shared.volumes import MANIFEST, FileFacts, VolumeManifest, digest
from tests.models.seal import seal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.models.segmentation.tiny_birefnet import Variant
    from tests.models.segmentation.tiny_sam import Variant as SamVariant

TINY_FASTSAM = Path(__file__).parents[1] / "data/FastSAM-tiny.pt"
FASTSAM, BIREFNET, FALLBACK = "FastSAM-tiny.pt", "onnx/tiny.onnx", "onnx/tiny-fallback.onnx"


def write_manifest(model_dir: Path, model: str, *names: str) -> None:
    """Write the manifest for files that lie in their places."""
    paths = {name: model_dir / model / name for name in names}
    facts = {name: FileFacts(sha256=digest(path), size_bytes=path.stat().st_size) for name, path in paths.items()}
    manifest = VolumeManifest(model=model, licence="as told in docs/models.md", sources=("tests",), files=facts)
    (model_dir / model / MANIFEST).write_text(manifest.model_dump_json())


def with_birefnet(model_dir: Path, variant: Variant, fallback: Variant | None = None) -> None:
    """Put a stand-in into a MODEL_DIR, and one for the file in full precision."""
    from tests.models.segmentation import tiny_birefnet  # noqa: PLC0415 (onnx is optional)

    variants = {BIREFNET: variant} | ({FALLBACK: fallback} if fallback else {})
    for name, each in variants.items():
        tiny_birefnet.build(model_dir / "birefnet" / name, each)
    write_manifest(model_dir, "birefnet", *variants)


def with_sam(model_dir: Path, variant: SamVariant, folder: str = "sam") -> None:
    """Put a stand-in for Segment Anything into a MODEL_DIR."""
    from tests.models.segmentation import tiny_sam  # noqa: PLC0415 (onnx is optional)

    tiny_sam.build(model_dir / folder, variant)
    seal(model_dir / folder)


def settings_for(model_dir: Path, **changes: object) -> Settings:
    """Return settings for the tiny models; the tiny FastSAM was trained at 160 pixels."""
    tiny = {"fastsam_file": FASTSAM, "fastsam_px": 160, "device": "cpu"}
    tiny |= {"birefnet_file": BIREFNET, "birefnet_fallback_file": FALLBACK}
    return Settings.model_validate({"model_dir": model_dir, **tiny, **changes})


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine two threads of torch wait for each other: 1.7 s instead of 12 ms for a tiny picture."""
    import torch  # noqa: PLC0415 (seconds)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def segmentation_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MODEL_DIR, to be read only."""
    model_dir = tmp_path_factory.mktemp("segmentation-models")
    (model_dir / "fastsam").mkdir()
    shutil.copy(TINY_FASTSAM, model_dir / "fastsam")
    write_manifest(model_dir, "fastsam", FASTSAM)
    with_birefnet(model_dir, "right")
    with_sam(model_dir, "sam")
    return model_dir


@pytest.fixture(scope="session")
def tiny(segmentation_models: Path) -> Settings:
    """Return settings for them."""
    return settings_for(segmentation_models)


@pytest.fixture
def own_models(segmentation_models: Path, tmp_path: Path) -> Path:
    """Return a copy of MODEL_DIR that a test may change."""
    return Path(shutil.copytree(segmentation_models, tmp_path / "models"))
