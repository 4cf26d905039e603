"""Runs Caddy as a child process: HTTPS with HTTP/2 in front of the gateway, for this machine only."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.stack.health import stack_is_healthy
from services.stack.process import ROOT, Process, ProcessGroup
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

HTTPS_HOST = "127.0.0.1"
_NAME = "localhost"  # the name in the certificate, which Caddy's local authority signs
_EXECUTABLE = Path(sys.executable).parent / "caddy"
_OPTIONS = f"""
default_bind {HTTPS_HOST}
auto_https disable_redirects
skip_install_trust
"""


class Caddy:
    """One Caddy with deploy/Caddyfile. Its authority stays in the data folder, so users need to trust it only once."""

    def __init__(self, data: Path, port: int, gateway: str) -> None:
        """`gateway` is host:port. Raises ConfigError if Caddy is not installed."""
        if not _EXECUTABLE.is_file():
            raise ConfigError("Caddy is not installed. `make run-https` installs it.")
        self._storage = data.resolve() / "caddy"
        self._port = port
        self._gateway = gateway

    @property
    def url(self) -> str:
        """The URL for browsers."""
        return f"https://{_NAME}:{self._port}"

    @property
    def root(self) -> Path:
        """The certificate of the authority, in PEM. Caddy writes it at its first start."""
        return self._storage / "pki/authorities/local/root.crt"

    def process(self, group: ProcessGroup, on_line: Callable[[str], None]) -> Process:
        """Return the process, which is not started yet; `on_line` gets its errors."""
        environment = {
            "SITE_ADDRESS": self.url,
            "GATEWAY": self._gateway,
            "CADDY_DATA": str(self._storage),
            "CADDY_OPTIONS": _OPTIONS,
            "CADDY_LOG_LEVEL": "ERROR",
            "XDG_DATA_HOME": str(self._storage.parent),  # otherwise Caddy writes an id into the home folder
        }
        argv = (str(_EXECUTABLE), "run", "--config", str(ROOT / "deploy/Caddyfile"))
        return Process("caddy", argv, group, env=environment, on_line=on_line)

    async def serves(self) -> bool:
        """Return whether the whole stack is healthy through Caddy, with a certificate of its authority."""
        if not self.root.is_file():
            return False
        trust = ssl.create_default_context(cafile=self.root)
        return await stack_is_healthy(_NAME, self._port, trust)
