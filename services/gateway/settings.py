"""The gateway's settings."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import SettingsConfigDict

from shared.settings import ServiceSettings, WebhookSettings

_HOST = re.compile(r"\*|[A-Za-z0-9_.-]+")


class Settings(ServiceSettings):
    """Settings of the gateway (GATEWAY_...)."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True, populate_by_name=True)

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = Field(default=8080, ge=0, le=65_535)
    """The port to listen on; 0 takes a free one, which the log names."""
    allowed_origins: str = Field(
        default="http://localhost:3000,https://localhost:3000",
        validation_alias=AliasChoices("GATEWAY_ALLOWED_ORIGINS", "ALLOWED_ORIGINS"),
    )
    """Origins of web pages that may call the gateway, separated by commas; * is any. Without keys loopback may, too."""
    allowed_hosts: str = ""
    """Host names by which clients may reach a gateway without keys, besides loopback, separated by commas; * is any."""
    access: Literal["open", "keys"] | None = None
    """`keys` requires API keys, `open` does not; unset requires keys unless only this machine can connect."""
    keys_file: Path | None = None
    """The file of API keys that `python -m services.gateway.keys` writes."""
    signing_key_file: Path | None = None
    """The file of secrets for signed URLs, one on each line, the same for all replicas; the first line signs."""
    signed_url_s: float = Field(default=300.0, gt=0, le=600)
    """Seconds that a signed URL is valid."""
    key_rate_per_s: float = Field(default=20.0, gt=0)
    """Requests a second that each API key may make."""
    key_burst: int = Field(default=100, ge=1)
    """Requests that a key may make together after a pause."""
    key_requests_at_once: int = Field(default=64, ge=1)
    """Requests of a key that may run at the same time, without its open event streams."""
    key_previews_per_s: float = Field(default=30.0, gt=0)
    """Requests for the outline under the pointer that each API key may make a second, besides its other requests."""
    key_preview_burst: int = Field(default=60, ge=1)
    """Such requests that a key may make together after a pause."""
    key_streams_at_once: int = Field(default=256, ge=1)
    """Event streams of a key that may be open at the same time."""
    streams_at_once: int = Field(default=4000, ge=1)
    """Event streams of all keys that may be open at the same time; each takes about 14 kB."""
    refusal_rate_per_s: float = Field(default=5.0, gt=0)
    """401 answers a second that a client address gets before it gets 429."""
    refusal_burst: int = Field(default=100, ge=1)
    """401 answers that a client address gets together after a pause."""
    trusted_proxies: str = ""
    """Addresses and networks of the proxies whose X-Forwarded-* headers count, separated by commas."""
    max_body_bytes: int = Field(default=64 * 1024**2, ge=1)
    """Bytes that the body of a request may have; it can carry four images in base64."""
    bodies_at_once: float = Field(default=1.4, ge=1)
    """How many bodies of the largest size may be in memory at once; smaller ones count by their size."""
    body_wait_s: float = Field(default=15.0, gt=0)
    """Seconds that a request waits for memory for its body, unread; then it is answered 429."""
    body_rate_bytes_per_s: int = Field(default=32_768, ge=1)
    """Bytes a second that a body must bring on average; a slower one is answered 408."""
    patience_s: float = Field(default=20.0, gt=0)
    """Timeout in seconds for the header of a request, for a pause in a body, and for a body that is not read."""
    reads_at_once: int = Field(default=2, ge=1)
    """Child processes that check uploads; one more decodes the few that need more than 20 MB of memory."""
    results_in_memory_bytes: int = Field(default=16 * 1024**2, ge=0)
    """Bytes of the most recently fetched results that stay in memory."""
    queue_limit_total: int = Field(default=10_000, ge=1)
    """Jobs that may wait in the queue; beyond, a submission is answered 429."""
    queue_limit_per_user: int = Field(default=200, ge=1)
    """Jobs of one owner that may wait in the queue."""
    submit_rate_per_s: float = Field(default=5.0, gt=0)
    """Jobs a second that each owner may submit where keys are required; cancelled ones count."""
    submit_burst: int = Field(default=500, ge=1)
    """Jobs that an owner may submit together after a pause."""
    submit_bytes_per_s: float = Field(default=20_000.0, gt=0)
    """Bytes a second of each owner's submissions, without images; the largest has about 120,000."""
    submit_bytes_burst: int = Field(default=32 * 1024**2, ge=256 * 1024)
    """Bytes of submissions that an owner may send together after a pause."""
    store_share: float = Field(default=0.25, gt=0, le=1)
    """The part of the stores of uploads and of results that one owner may fill. Without keys it is the whole."""
    result_wait_s: float = Field(default=300.0, ge=0)
    """Seconds that a result request waits for its job, or, like a stream, for the broker; proxies must wait longer."""
    heartbeat_s: float = Field(default=15.0, gt=0)
    """Seconds between the comments on a silent event stream; many proxies close it after a minute of silence."""
    mask_timeout_s: float = Field(default=60.0, gt=0)
    """Timeout in seconds for a mask from the segmentation service."""
    preview_timeout_s: float = Field(default=5.0, gt=0)
    """Timeout in seconds for the outline under the pointer."""
    image_timeout_s: float = Field(default=30.0, gt=0)
    """Timeout in seconds for an operation of the image service."""
    rendition_timeout_s: float = Field(default=60.0, gt=0)
    """Timeout in seconds for a picture in another format; an AVIF of 16 megapixels takes the longest."""
    gps: Literal["keep", "drop"] = "keep"
    """Whether an owner's downloads keep the place of the photo; `gps` in a query decides otherwise."""
    health_timeout_s: float = Field(default=2.0, gt=0)
    """Timeout in seconds for each service's health."""
    webhooks: WebhookSettings = Field(default_factory=WebhookSettings)

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, value: str) -> str:
        """Refuse an invalid network, which uvicorn would take for a host name, so that it trusts no proxy at all."""
        for entry in value.split(","):
            if "/" in entry:
                ip_network(entry.strip())
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: str) -> str:
        """Refuse an entry that no Host header can match."""
        for entry in _split(value):
            if not _HOST.fullmatch(entry):
                ip_address(entry.strip("[]"))
        return value

    @property
    def origins(self) -> tuple[str, ...]:
        """The allowed origins one by one."""
        return tuple(origin.rstrip("/") for origin in _split(self.allowed_origins))

    @property
    def hosts(self) -> frozenset[str]:
        """The allowed hosts and the own address, as a Host header names them: in lower case, IPv6 in brackets."""
        names = (name.lower().strip("[]") for name in (*_split(self.allowed_hosts), self.host))
        return frozenset(f"[{name}]" if ":" in name else name for name in names)


def _split(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]
