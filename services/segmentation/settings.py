"""What the segmentation service must be told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the segmentation service (SEGMENTATION_...)."""

    model_config = SettingsConfigDict(env_prefix="SEGMENTATION_", frozen=True, populate_by_name=True)

    backends: str = "grabcut"  # registered names or module:Class, separated by commas; the first is the default
    model_dir: Path = Field(default=Path(".models"), validation_alias="MODEL_DIR")
    concurrency: int = Field(default=2, ge=1, le=64)  # engine runs at the same time, each in a thread
    waiting: int = Field(default=16, ge=0)  # requests beyond those; the next one is told that all are busy
    image_cache_bytes: int = Field(default=256_000_000, ge=0)  # decoded pictures
    device: Literal["auto", "cpu", "cuda"] = "auto"  # of fastsam and birefnet
    fastsam_file: str = "FastSAM-s.pt"  # in MODEL_DIR/fastsam
    fastsam_px: int = Field(default=1024, ge=32, multiple_of=32)  # long side of what the network sees
    fastsam_confidence: float = Field(default=0.4, gt=0, lt=1)  # less sure things are dropped
    birefnet_file: str = "onnx/model_fp16.onnx"  # in MODEL_DIR/birefnet
    evidence_cache_bytes: int = Field(default=64_000_000, ge=0)  # what networks have seen: 0.1 to 5 MB a picture
