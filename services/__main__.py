"""`python -m services`: the whole system with one command, until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from services.stack.stack import Options, Stack, all_services
from shared.errors import EXIT_CONFIG, ConfigError

_COLOURS = (36, 33, 32, 35, 34, 96)  # ANSI foregrounds that read well on dark and light ground


class Log:
    """Writes lines to stderr behind the name of the program they come from."""

    def __init__(self) -> None:
        self._colours: dict[str, int] = {}
        self._on_terminal = sys.stderr.isatty()

    def __call__(self, name: str, line: str) -> None:
        """Write one line."""
        prefix = f"{name:<13}|"
        if self._on_terminal:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        print(prefix, line, file=sys.stderr, flush=True)


def options(arguments: list[str]) -> Options:
    """Read the command line."""
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_argument("--host", default=defaults.host, help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=defaults.port, help="its port, 0: a free one (%(default)s)")
    parser.add_argument("--data", type=Path, default=defaults.data, help="folder for jobs and pictures (%(default)s)")
    parser.add_argument("--workers", type=int, default=defaults.workers, help="number of a100workers (%(default)s)")
    parser.add_argument("--https", action="store_true", help="also serve https://localhost, with HTTP/2")
    parser.add_argument("--https-port", type=int, default=8443, help="its port, 0: a free one (%(default)s)")
    parser.add_argument(
        "--metrics", action="store_true", help="serve probes and metrics of each service, and say where"
    )
    parser.add_argument("--no-nats", action="store_true", help="use the broker at --nats-url, do not start one")
    parser.add_argument("--nats-url", help="the broker's address, with --no-nats")
    given = parser.parse_args(arguments)
    if given.no_nats != (given.nats_url is not None):
        parser.error("--no-nats and --nats-url go together")
    if given.workers < 1:
        parser.error("--workers must be 1 or more")
    if given.nats_url is not None and (why := _flaw(given.nats_url)):
        parser.error(f"--nats-url is not valid: {why}.")
    return Options(
        host=given.host,
        port=given.port,
        data=given.data,
        nats_url=given.nats_url,
        workers=given.workers,
        https_port=given.https_port if given.https else None,
        metrics=given.metrics,
    )


def _flaw(nats_url: str) -> str:
    from pydantic import ValidationError  # noqa: PLC0415 (a third of a second, and most start a broker of their own)

    from shared.errors import first_invalid  # noqa: PLC0415
    from shared.settings import NatsSettings  # noqa: PLC0415

    try:
        NatsSettings(url=nats_url)
    except ValidationError as error:
        return first_invalid(error.errors(include_input=False))[1]
    return ""


async def run(chosen: Options) -> None:
    """Hold the stack up until a signal. Raises ConfigError."""
    stack = Stack(chosen, all_services(chosen.workers), announce=lambda line: print(line, flush=True), log=Log())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stack.stop)
    await stack.run()


if __name__ == "__main__":
    try:
        asyncio.run(run(options(sys.argv[1:])))
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    except KeyboardInterrupt:  # before there was anything to take down
        sys.exit(128 + signal.SIGINT)
