"""What the image utilities must be told."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the image utilities (IMAGEUTILS_...)."""

    model_config = SettingsConfigDict(env_prefix="IMAGEUTILS_", frozen=True)

    at_once: int = Field(default=4, ge=1)  # requests in work; each may hold a picture of 64 megapixels
    in_flight: int = Field(default=32, ge=1)  # of each kind, in work and waiting; the next is told "busy"
