"""What a worker must be told."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


def _new_name() -> str:
    return f"w{os.getpid()}-{secrets.token_hex(3)}"


class Settings(ServiceSettings):
    """Settings of an A100 worker (A100WORKER_...)."""

    model_config = SettingsConfigDict(env_prefix="A100WORKER_", frozen=True)

    backend: str = "classical"  # a registered name, or module:Class
    name: str = Field(default_factory=_new_name, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    model_dir: Path = Field(default=Path(".models"), validation_alias="MODEL_DIR")
    idle_poll_s: float = Field(default=0.5, gt=0)  # a job that comes back from a dead worker announces itself to nobody
    retry_delay_s: float = Field(default=1.0, ge=0)
