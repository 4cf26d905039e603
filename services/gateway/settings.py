"""What the gateway must be told."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Settings of the gateway (GATEWAY_...)."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True, populate_by_name=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    allowed_origins: str = Field(  # of the pages that may call us, separated by commas; * for any
        default="http://localhost:3000,https://localhost:3000",
        validation_alias=AliasChoices("GATEWAY_ALLOWED_ORIGINS", "ALLOWED_ORIGINS"),
    )
    access: Literal["open", "keys"] | None = None  # None: open to this machine, keys for all others
    keys_file: Path | None = None  # of `python -m services.gateway.keys`
    signing_key_file: Path | None = None  # a secret on each line, of which the first signs; the same for all replicas
    signed_url_s: float = Field(default=300.0, gt=0, le=600)
    key_rate_per_s: float = Field(default=20.0, gt=0)  # requests of one key
    key_burst: int = Field(default=100, ge=1)  # that may come together after a pause
    key_requests_at_once: int = Field(default=64, ge=1)  # event streams count for as long as they are open
    refusal_rate_per_s: float = Field(default=5.0, gt=0)  # answers 401 to one address
    refusal_burst: int = Field(default=100, ge=1)  # that may come together after a pause
    trusted_proxies: str = ""  # addresses and networks, separated by commas, whose X-Forwarded-* headers are believed
    max_body_bytes: int = Field(default=64 * 1024**2, ge=1)  # a request carries up to four pictures as base64
    patience_s: float = Field(default=20.0, gt=0)  # for a request's header, and for a body that is not read
    reads_at_once: int = Field(default=2, ge=1)  # uploads that are checked; one may unpack to 256 MB
    results_in_memory_bytes: int = Field(default=16 * 1024**2, ge=0)  # of those that were fetched last
    queue_limit_total: int = Field(default=10_000, ge=1)  # jobs that wait for a worker
    queue_limit_per_user: int = Field(default=200, ge=1)
    result_wait_s: float = Field(default=30.0, ge=0)  # a result that is asked for while its job still runs
    heartbeat_s: float = Field(default=15.0, gt=0)  # proxies close a stream that is silent for a minute
    mask_timeout_s: float = Field(default=60.0, gt=0)
    image_timeout_s: float = Field(default=30.0, gt=0)
    health_timeout_s: float = Field(default=2.0, gt=0)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks_exist(cls, value: str) -> str:
        """Uvicorn takes what is no network for the name of a host, and then nobody would be believed."""
        for entry in value.split(","):
            if "/" in entry:
                ip_network(entry.strip())
        return value

    @property
    def origins(self) -> tuple[str, ...]:
        """The allowed origins one by one."""
        return tuple(origin.strip().rstrip("/") for origin in self.allowed_origins.split(",") if origin.strip())
