"""The settings that all services have; every default works on a laptop. Each service adds its own in its folder."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import ConfigError, first_invalid
from shared.webhooks import Network, parse_networks

S = TypeVar("S", bound=BaseSettings)
_ADDRESSES = "It must be nats://host:port or tls://host:port, or several of them, separated by commas"


class NatsSettings(BaseSettings):
    """The connection to the broker (NATS_URL, ...)."""

    model_config = SettingsConfigDict(env_prefix="NATS_", frozen=True)

    url: str = "nats://127.0.0.1:4222"
    """One or more URLs of the broker, separated by commas: `nats://host:port` or `tls://host:port`."""
    user: str | None = None
    """A user name, for a broker that asks for one."""
    password: str | None = None
    """The password of that user."""
    nkey_file: Path | None = None
    """The file with the NKey of this service, made by `make credentials`."""
    ca_file: Path | None = None
    """The certificate authority of the broker. It switches TLS on."""
    inbox_prefix: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+$")
    """The prefix of reply subjects. The default is `_INBOX_<service>`."""

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

    model_config = SettingsConfigDict(env_prefix="STREAMS_", frozen=True, allow_inf_nan=False)

    replicas: int = Field(default=1, ge=1, le=5)
    """The copies of each stream: 3 in a cluster of three servers."""
    lease_s: float = Field(default=30.0, ge=0.5)
    """A worker that does not extend its lease for this long loses its job."""
    max_deliver: int = Field(default=3, ge=1)
    """The attempts of a job; to hand back a job uses none. The broker's own `max_deliver` is attempts + handbacks."""
    max_handbacks: int = Field(default=20, ge=0)
    """How often a job may be handed back. It ends jobs that take longer than any worker runs."""
    queue_limit: int = Field(default=10_000, ge=1)
    """The most jobs in the stream JOB_Q."""
    picture_bytes: int = Field(default=8 * 1024**3, ge=64 * 1024**2)
    """The size of all image buckets together."""
    repair: str = ""
    """The command that error texts name for a broker that only `python -m services` can start, which sets it."""


class WebhookSettings(BaseSettings):
    """The endpoints that webhooks may be sent to (WEBHOOKS_ALLOWED_NETWORKS, ...), the same for gateway and sender."""

    model_config = SettingsConfigDict(env_prefix="WEBHOOKS_", frozen=True)

    allowed_networks: str = ""
    """Networks that endpoints may be in although they are not public, separated by commas: 10.1.0.0/16."""
    allow_http: bool = False
    """Whether endpoints may have URLs with http, too. Payloads and result addresses are then sent unencrypted."""

    @field_validator("allowed_networks")
    @classmethod
    def _check_networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    @property
    def networks(self) -> tuple[Network, ...]:
        """The allowed networks one by one."""
        return parse_networks(self.allowed_networks)


class LogSettings(BaseSettings):
    """Level and form of the log (LOG_LEVEL, LOG_FORMAT)."""

    model_config = SettingsConfigDict(env_prefix="LOG_", frozen=True)

    level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """The lowest level that is logged: DEBUG, INFO, WARNING or ERROR."""
    format: Literal["text", "json"] = "text"
    """`text` for people, `json` for a log collector."""


class ProbeSettings(BaseSettings):
    """The address for probes and metrics (PROBE_PORT, ...); without a port there is none."""

    model_config = SettingsConfigDict(env_prefix="PROBE_", frozen=True)

    host: str = "127.0.0.1"
    """The address on which probes and metrics are served. Images set 0.0.0.0."""
    port: int | None = Field(default=None, ge=0, le=65_535)
    """The port of probes and metrics. Without it there is none; 0 takes a free port, which the log names."""


class TraceSettings(BaseSettings):
    """The collector of spans (OTEL_EXPORTER_OTLP_ENDPOINT). OpenTelemetry reads its other variables itself."""

    model_config = SettingsConfigDict(env_prefix="OTEL_EXPORTER_OTLP_", frozen=True)

    endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """The base URL of an OTLP collector. Without it no spans are recorded."""


class ServiceSettings(BaseSettings):
    """Base of each service's own settings."""

    # No infinity, or a wrong value could make a wait endless.
    model_config = SettingsConfigDict(frozen=True, allow_inf_nan=False)

    nats: NatsSettings = Field(default_factory=NatsSettings)
    streams: StreamSettings = Field(default_factory=StreamSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    probe: ProbeSettings = Field(default_factory=ProbeSettings)
    trace: TraceSettings = Field(default_factory=TraceSettings)
    drain_s: float = Field(default=3.0, ge=0)
    """How long a stopping service waits for running work."""

    @property
    def instance(self) -> str:
        """Return the name of this process among the replicas of its service."""
        return socket.gethostname()


def find_obsolete(settings: BaseSettings) -> dict[str, str]:
    """Return the variables that were set and have no effect any more, each with its replacement.

    A setting that is removed or renamed stays as a field with `deprecated`, so that an operator learns of it.
    """
    prefix = str(settings.model_config.get("env_prefix") or "")
    fields = type(settings).model_fields
    return {
        f"{prefix}{name}".upper(): str(fields[name].deprecated)
        for name in sorted(settings.model_fields_set)
        if fields[name].deprecated
    }


def load(settings: type[S]) -> S:
    """Read settings from the environment. Raises ConfigError that names the wrong variable."""
    try:
        return settings()
    except ValidationError as error:
        groups = (NatsSettings, StreamSettings, LogSettings, ProbeSettings, TraceSettings, WebhookSettings)
        failed: type[BaseSettings] = next((group for group in groups if group.__name__ == error.title), settings)
        prefix = str(failed.model_config.get("env_prefix") or "")
        field, message = first_invalid(error.errors(include_input=False))
        name = prefix + field.replace(".", "_")
        raise ConfigError(f"The setting {name.upper()} is not valid: {message}.") from error
