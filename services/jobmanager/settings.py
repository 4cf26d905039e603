"""The settings of the job manager."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the job manager (JOBMANAGER_...)."""

    model_config = SettingsConfigDict(env_prefix="JOBMANAGER_", frozen=True)

    lookahead: int = Field(default=1, ge=1)
    """The least number of unstarted jobs that a class may have in JOB_Q, where their order is final; with more workers
    it is one job for each worker."""
    compare_s: float = Field(default=5.0, gt=0)
    """Seconds between two comparisons of the board with the queue, which find jobs that the broker has lost."""
