"""Settings of the image utilities."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.image_memory import LARGEST_BYTES
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the image utilities (IMAGEUTILS_...)."""

    model_config = SettingsConfigDict(env_prefix="IMAGEUTILS_", frozen=True)

    at_once: int = Field(default=4, ge=1)
    """Maximum number of requests processed at the same time."""
    memory_bytes: int = Field(default=LARGEST_BYTES, ge=LARGEST_BYTES)
    """Bytes of memory for the pictures of all requests that are processed; the default is one of the largest."""
    signing_certificate_file: Path | None = None
    """Certificate chain in PEM: results in a requested format are signed with it (C2PA)."""
    signing_key_file: Path | None = None
    """Key of that certificate, in PEM without a password."""
    in_flight: int = Field(default=32, ge=1)
    """Maximum number of open requests of each kind, waiting ones included; further requests get the error `busy`."""
