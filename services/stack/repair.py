"""Corrects the broker's store in a data folder. Only the stack starts this broker, so only it can correct the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.stack.nats_server import NatsServer
from services.stack.stack import lock_data_folder
from shared.errors import BrokerUnavailable, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def repair_store(data: Path, log: Callable[[str, str], None]) -> None:
    """Declare all streams and consumers, and delete those that cannot be changed, with their messages.

    Raises ConfigError, also while a stack uses the folder.
    """
    # These imports take a third of a second, and most runs of the launcher do not need them.
    from shared import declaring, settings  # noqa: PLC0415
    from shared.bus import open_bus  # noqa: PLC0415

    with lock_data_folder(data):
        async with (
            NatsServer(data / "nats", on_line=lambda line: log("nats", line)) as server,
            open_bus(settings.NatsSettings(url=server.url), "repair") as bus,
        ):
            try:
                await declaring.declare_streams(bus, settings.load(settings.StreamSettings), force=True)
            except BrokerUnavailable as error:
                raise ConfigError(error.message) from error
