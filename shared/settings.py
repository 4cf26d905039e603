"""The settings that all services have; every default works on a laptop. Each service adds its own in its folder."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import ConfigError, first_invalid

S = TypeVar("S", bound=BaseSettings)
_ADDRESSES = "It must be nats://host:port or tls://host:port, or several of them, separated by commas"


class NatsSettings(BaseSettings):
    """The connection to the broker (NATS_URL, ...)."""

    model_config = SettingsConfigDict(env_prefix="NATS_", frozen=True, use_attribute_docstrings=True)

    url: str = "nats://127.0.0.1:4222"
    user: str | None = None
    password: str | None = None
    nkey_file: Path | None = None
    ca_file: Path | None = None
    inbox_prefix: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")  # None: the service's name

    @property
    def tls(self) -> bool:
        """Return whether the connection uses TLS."""
        return self.ca_file is not None or self.url.startswith("tls://")

    @field_validator("url")
    @classmethod
    def _names_servers(cls, value: str) -> str:
        """Refuse malformed URLs, on which nats-py crashes, and impossible host names, which it retries forever."""
        if not all(_is_server(server) for server in value.split(",")):
            raise ValueError(_ADDRESSES)  # without the value, which may contain a password
        return value


def _is_server(text: str) -> bool:
    try:
        address = urlsplit(text if "://" in text else f"nats://{text}")
        port = address.port
    except ValueError:
        return False
    one_word = text.isprintable() and " " not in text
    return address.scheme in {"nats", "tls"} and bool(address.hostname) and port != 0 and one_word


class StreamSettings(BaseSettings):
    """Limits and replication of the streams (STREAMS_REPLICAS, ...)."""

    model_config = SettingsConfigDict(
        env_prefix="STREAMS_", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    replicas: int = Field(default=1, ge=1, le=5)
    lease_s: float = Field(default=30.0, ge=0.5)  # a worker that does not extend its lease for this long loses the job
    max_deliver: int = Field(default=3, ge=1)  # attempts; a job that a stopping worker returns does not use one
    max_handbacks: int = Field(default=20, ge=0)  # limits a job that takes longer than any worker runs
    queue_limit: int = Field(default=10_000, ge=1)  # jobs in JOB_Q
    picture_bytes: int = Field(default=8 * 1024**3, ge=64 * 1024**2)  # all object buckets together


class LogSettings(BaseSettings):
    """Level and form of the log (LOG_LEVEL, LOG_FORMAT)."""

    model_config = SettingsConfigDict(env_prefix="LOG_", frozen=True, use_attribute_docstrings=True)

    level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    format: Literal["text", "json"] = "text"  # text for people, json for a log collector


class ProbeSettings(BaseSettings):
    """The address for probes and metrics (PROBE_PORT, ...); without a port there is none."""

    model_config = SettingsConfigDict(env_prefix="PROBE_", frozen=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65_535)  # 0: a free port; the log names it


class TraceSettings(BaseSettings):
    """The collector of spans (OTEL_EXPORTER_OTLP_ENDPOINT). OpenTelemetry reads its other variables itself."""

    model_config = SettingsConfigDict(env_prefix="OTEL_EXPORTER_OTLP_", frozen=True, use_attribute_docstrings=True)

    endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")


class ServiceSettings(BaseSettings):
    """Base of each service's own settings."""

    # No infinity, or a wrong value could make a wait endless.
    model_config = SettingsConfigDict(frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    nats: NatsSettings = Field(default_factory=NatsSettings)
    streams: StreamSettings = Field(default_factory=StreamSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    probe: ProbeSettings = Field(default_factory=ProbeSettings)
    trace: TraceSettings = Field(default_factory=TraceSettings)
    drain_s: float = Field(default=3.0, ge=0)  # the time that running work has after a stop

    @property
    def instance(self) -> str:
        """Return the name of this process among the replicas of its service."""
        return socket.gethostname()


def load(settings: type[S]) -> S:
    """Read settings from the environment. Raises ConfigError that names the wrong variable."""
    try:
        return settings()
    except ValidationError as error:
        groups = (NatsSettings, StreamSettings, LogSettings, ProbeSettings, TraceSettings)
        failed: type[BaseSettings] = next((group for group in groups if group.__name__ == error.title), settings)
        prefix = str(failed.model_config.get("env_prefix") or "")
        field, message = first_invalid(error.errors(include_input=False))
        name = prefix + field.replace(".", "_")
        raise ConfigError(f"The setting {name.upper()} is not valid: {message}.") from error
