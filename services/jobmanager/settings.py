"""The settings of the job manager."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings, WebhookSettings

_LONGEST_DELAY_S = 86_400.0


class Settings(ServiceSettings):
    """Settings of the job manager (JOBMANAGER_...)."""

    model_config = SettingsConfigDict(env_prefix="JOBMANAGER_", frozen=True)

    lookahead: int = Field(default=1, ge=1)
    """The least number of unstarted jobs that a class may have in JOB_Q, where their order is final; with more workers
    it is one job for each worker."""
    compare_s: float = Field(default=5.0, gt=0)
    """Seconds between two comparisons of the board with the queue, which find jobs that the broker has lost."""
    webhooks: WebhookSettings = Field(default_factory=WebhookSettings)
    webhooks_nkey_file: Path | None = None
    """The file with the NKey of the sender of webhooks. On a broker with keys no webhook is sent without it."""
    webhooks_ca_file: Path | None = None
    """A certificate authority that endpoints of webhooks may use besides the public ones."""
    webhooks_timeout_s: float = Field(default=15.0, gt=0, le=30)
    """Seconds that one call to an endpoint may take."""
    webhooks_retry_s: str = "5,30,120,600,1800,3600,7200,14400,28800,28800,28800,28800"
    """Seconds before each further attempt at a delivery, separated by commas; after the last one it has failed."""
    webhooks_disable_after_s: float = Field(default=5 * 86_400.0, gt=0)
    """An endpoint is disabled if no call to it has succeeded for so many seconds."""

    @field_validator("webhooks_retry_s")
    @classmethod
    def _check_delays(cls, value: str) -> str:
        """Refuse anything but positive numbers."""
        if not all(0 < delay <= _LONGEST_DELAY_S for delay in _parse_delays(value)):
            raise ValueError(f"Each number must be more than 0 and at most {_LONGEST_DELAY_S:g}")
        return value

    @property
    def webhook_delays_s(self) -> tuple[float, ...]:
        """The seconds before each further attempt."""
        return _parse_delays(self.webhooks_retry_s)


def _parse_delays(text: str) -> tuple[float, ...]:
    return tuple(float(entry) for entry in text.split(",") if entry.strip())
