"""What the job manager must be told."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the job manager (JOBMANAGER_...)."""

    model_config = SettingsConfigDict(env_prefix="JOBMANAGER_", frozen=True)

    # Of a class that no worker has, in JOB_Q, where the order is final; one for each worker where those are more.
    lookahead: int = Field(default=1, ge=1)
