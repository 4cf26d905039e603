"""`python -m services` runs the whole system until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from services.stack.repair import repair_store
from services.stack.stack import Options, Stack, all_services
from shared.errors import EXIT_CONFIG, ConfigError

_COLOURS = (36, 33, 32, 35, 34, 96)  # ANSI foregrounds that read well on dark and light ground


class Log:
    """Writes lines to stderr, each with the name of its process."""

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


def _build_parser() -> argparse.ArgumentParser:
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_argument("--host", default=defaults.host, help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=defaults.port, help="port to listen on, 0 for a free one (%(default)s)"
    )
    parser.add_argument("--data", type=Path, default=defaults.data, help="folder for jobs and images (%(default)s)")
    parser.add_argument("--workers", type=int, default=defaults.workers, help="number of workers (%(default)s)")
    parser.add_argument("--https", action="store_true", help="also serve https://localhost with HTTP/2")
    parser.add_argument("--https-port", type=int, default=8443, help="HTTPS port, 0 for a free one (%(default)s)")
    parser.add_argument(
        "--metrics", action="store_true", help="serve probes and metrics of each service, and print their addresses"
    )
    parser.add_argument("--no-nats", action="store_true", help="use the broker at --nats-url instead of starting one")
    parser.add_argument("--nats-url", help="address of the broker, with --no-nats")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="correct the streams of the data folder and exit; deletes those that cannot be changed, with their jobs",
    )
    return parser


def parse_options(arguments: list[str]) -> Options:
    """Parse the command line. Exits with code 2 if it is not valid."""
    parser = _build_parser()
    given = parser.parse_args(arguments)
    if given.no_nats != (given.nats_url is not None):
        parser.error("--no-nats and --nats-url must be given together")
    if given.no_nats and given.repair:
        parser.error("--repair is for the broker that this command starts; use the nats command for another one")
    if given.workers < 1:
        parser.error("--workers must be 1 or more")
    if given.nats_url is not None and (reason := _describe_invalid_url(given.nats_url)):
        parser.error(f"--nats-url is not valid: {reason}.")
    return Options(
        host=given.host,
        port=given.port,
        data=given.data,
        nats_url=given.nats_url,
        workers=given.workers,
        https_port=given.https_port if given.https else None,
        metrics=given.metrics,
        repair=given.repair,
    )


def _describe_invalid_url(nats_url: str) -> str:
    from pydantic import ValidationError  # noqa: PLC0415 (takes a third of a second, and most runs do not need it)

    from shared.errors import first_invalid  # noqa: PLC0415
    from shared.settings import NatsSettings  # noqa: PLC0415

    try:
        NatsSettings(url=nats_url)
    except ValidationError as error:
        return first_invalid(error.errors(include_input=False))[1]
    return ""


async def run(chosen: Options) -> None:
    """Run the stack until a signal, or repair its store. Raises ConfigError."""
    if chosen.repair:
        await repair_store(chosen.data, Log())
        print("The streams are as declared.", flush=True)
        return
    stack = Stack(chosen, all_services(chosen.workers), announce=lambda line: print(line, flush=True), log=Log())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stack.stop)
    await stack.run()


if __name__ == "__main__":
    try:
        asyncio.run(run(parse_options(sys.argv[1:])))
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    except KeyboardInterrupt:  # before anything was started
        sys.exit(128 + signal.SIGINT)
