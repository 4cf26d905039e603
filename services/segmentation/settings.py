"""Settings of the segmentation service."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.image_memory import LARGEST_BYTES
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the segmentation service (SEGMENTATION_...)."""

    model_config = SettingsConfigDict(env_prefix="SEGMENTATION_", frozen=True, populate_by_name=True)

    backends: str = "auto"
    """Engines to load, separated by commas, by registered name or as `module:Class`; the first is the default.
    `auto`: `sam,grabcut` where MODEL_DIR has the files of `sam`, else `grabcut`."""
    model_dir: Path = Field(default=Path(".models"), validation_alias="MODEL_DIR")
    """Directory of the model weights, with one folder per model."""
    concurrency: int = Field(default=2, ge=1, le=64)
    """Maximum number of engine runs at the same time, each in its own thread."""
    waiting: int = Field(default=16, ge=0)
    """Maximum number of waiting requests; further requests get the error `busy`."""
    memory_bytes: int = Field(default=LARGEST_BYTES, ge=LARGEST_BYTES)
    """Bytes of memory for the pictures of all requests that are processed; the default is one of the largest."""
    image_cache_bytes: int = Field(default=128_000_000, ge=0)
    """Maximum size in bytes of the decoded photos kept in memory, three bytes a pixel."""
    look_ahead_load: float = Field(default=1.0, ge=0)
    """Compute the saliency of a photo when it is uploaded, if the machine's load is below this many times its cores;
    0: only when a request needs it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device for FastSAM and BiRefNet; `auto` uses CUDA where it works."""
    fastsam_file: str = "FastSAM-s.pt"
    """FastSAM weights, relative to MODEL_DIR/fastsam."""
    fastsam_px: int = Field(default=1024, ge=32, multiple_of=32)
    """Long side of FastSAM's input in pixels, a multiple of 32."""
    fastsam_confidence: float = Field(default=0.4, gt=0, lt=1)
    """Minimum confidence of an instance that FastSAM detects."""
    birefnet_file: str = "onnx/model_fp16.onnx"
    """BiRefNet weights, relative to MODEL_DIR/birefnet."""
    birefnet_fallback_file: str = "onnx/model.onnx"
    """BiRefNet weights in full precision, for images for which the others return NaN; empty for none."""
    evidence_cache_bytes: int = Field(default=64_000_000, ge=0)
    """Maximum size in bytes of the network outputs kept in memory; one image needs 0.1 to 9 MB."""
    saliency_cache_bytes: str = Field(default="", deprecated="set SEGMENTATION_EVIDENCE_CACHE_BYTES instead")
    """Obsolete and without effect: `SEGMENTATION_EVIDENCE_CACHE_BYTES` limits the outputs of all networks."""
