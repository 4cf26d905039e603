"""What the job manager must be told."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the job manager (JOBMANAGER_...)."""

    model_config = SettingsConfigDict(env_prefix="JOBMANAGER_", frozen=True)

    lookahead: int = Field(default=8, ge=1)  # jobs of a class in JOB_Q that no worker has: its order is final
