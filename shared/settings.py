"""What every service must be told; each default runs on a laptop. A service's own settings live in its folder."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import ConfigError, first_invalid

S = TypeVar("S", bound=BaseSettings)
_ADDRESSES = "It must be nats://host:port or tls://host:port, or several of them with commas between"


class NatsSettings(BaseSettings):
    """Where the broker is (NATS_URL, ...)."""

    model_config = SettingsConfigDict(env_prefix="NATS_", frozen=True, use_attribute_docstrings=True)

    url: str = "nats://127.0.0.1:4222"
    user: str | None = None
    password: str | None = None
    nkey_file: Path | None = None
    ca_file: Path | None = None
    inbox_prefix: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")  # None: one of the service's own

    @property
    def tls(self) -> bool:
        """Whether the broker must speak TLS."""
        return self.ca_file is not None or self.url.startswith("tls://")

    @field_validator("url")
    @classmethod
    def _names_servers(cls, value: str) -> str:
        """The client dies of what is no address, and asks for a name that cannot be until the end of time."""
        if not all(_is_server(server) for server in value.split(",")):
            raise ValueError(_ADDRESSES)  # not what is there: it may hold a password
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
    """How much the streams keep and how safely (STREAMS_REPLICAS, ...)."""

    model_config = SettingsConfigDict(
        env_prefix="STREAMS_", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    replicas: int = Field(default=1, ge=1, le=5)
    lease_s: float = Field(default=30.0, ge=0.5)  # a worker silent for this long loses its job
    max_deliver: int = Field(default=3, ge=1)  # attempts; a worker that stops and hands its job back takes none
    max_handbacks: int = Field(default=20, ge=0)  # a job longer than every worker's life must not go round for ever
    queue_limit: int = Field(default=10_000, ge=1)  # jobs in JOB_Q
    picture_bytes: int = Field(default=8 * 1024**3, ge=64 * 1024**2)  # all object buckets together


class LogSettings(BaseSettings):
    """How the log looks (LOG_LEVEL, LOG_FORMAT)."""

    model_config = SettingsConfigDict(env_prefix="LOG_", frozen=True, use_attribute_docstrings=True)

    level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    format: Literal["text", "json"] = "text"  # for a person, or for a machine that collects logs


class ProbeSettings(BaseSettings):
    """Where a process answers probes and scrapes (PROBE_PORT, ...); nowhere without a port."""

    model_config = SettingsConfigDict(env_prefix="PROBE_", frozen=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65_535)  # 0: a free one, told in the log


class TraceSettings(BaseSettings):
    """Where spans go (OTEL_EXPORTER_OTLP_ENDPOINT), if anywhere. OpenTelemetry reads its other variables itself."""

    model_config = SettingsConfigDict(env_prefix="OTEL_EXPORTER_OTLP_", frozen=True, use_attribute_docstrings=True)

    endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")


class ServiceSettings(BaseSettings):
    """Base of each service's own settings."""

    # No infinity: nothing here may last forever.
    model_config = SettingsConfigDict(frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    nats: NatsSettings = Field(default_factory=NatsSettings)
    streams: StreamSettings = Field(default_factory=StreamSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    probe: ProbeSettings = Field(default_factory=ProbeSettings)
    trace: TraceSettings = Field(default_factory=TraceSettings)
    drain_s: float = Field(default=3.0, ge=0)  # how long a stop may wait for running work

    @property
    def instance(self) -> str:
        """The name of this process among those of its service."""
        return socket.gethostname()


def load(settings: type[S]) -> S:
    """Read settings from the environment. Raises ConfigError with one sentence that names the variable."""
    try:
        return settings()
    except ValidationError as error:
        groups = (NatsSettings, StreamSettings, LogSettings, ProbeSettings, TraceSettings)
        failed: type[BaseSettings] = next((group for group in groups if group.__name__ == error.title), settings)
        prefix = str(failed.model_config.get("env_prefix") or "")
        field, message = first_invalid(error.errors(include_input=False))
        name = prefix + field.replace(".", "_")
        raise ConfigError(f"The setting {name.upper()} is not valid: {message}.") from error
