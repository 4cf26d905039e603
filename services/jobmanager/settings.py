"""What the job manager must be told."""

from __future__ import annotations

from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the job manager (JOBMANAGER_...)."""

    model_config = SettingsConfigDict(env_prefix="JOBMANAGER_", frozen=True)
