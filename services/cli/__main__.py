"""The command line: `python -m services.cli`, installed as `artmancer`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from . import arguments, batch, photos
from .async_client import AsyncClient
from .errors import ArtMancerError
from .output import JsonReporter, TerminalReporter, print_json

if TYPE_CHECKING:
    from argparse import Namespace

_FAILED, _INTERRUPTED = 1, 130


def main() -> int:
    """Run a command. Return 0, 1 if anything failed, 130 after Ctrl-C: repeat the command to go on."""
    options = arguments.parse()
    try:
        return asyncio.run(_run(options))
    except ArtMancerError as error:
        sys.stderr.write(f"artmancer: {error}\n")
        return _FAILED
    except KeyboardInterrupt:
        sys.stderr.write("artmancer: Interrupted. The jobs go on; repeat the command to fetch their results.\n")
        return _INTERRUPTED


async def _run(options: Namespace) -> int:
    async with AsyncClient(options.url, options.key) as client:
        match options.command:
            case "upload":
                return await _upload(client, options)
            case "watch":
                return await _watch(client, options)
            case "receipt":
                sys.stdout.write((await client.receipt(options.job)).model_dump_json(indent=2) + "\n")
                return 0
        with JsonReporter() if options.json else TerminalReporter() as reporter:
            outcomes = await batch.run(client, options, reporter)
        return _FAILED if any(outcome.error for outcome in outcomes) else 0


async def _upload(client: AsyncClient, options: Namespace) -> int:
    for photo in photos.find_photos(options.photos):
        sha256 = await client.upload(photo)
        if options.json:
            print_json({"photo": str(photo), "sha256": sha256})
        else:
            sys.stdout.write(f"{sha256}  {photo}\n")
    return 0


async def _watch(client: AsyncClient, options: Namespace) -> int:
    event = None
    async for event in client.events(options.job):
        if options.json:
            print_json({"id": event.id, "event": event.name, **event.data})
        else:
            words = event.data.get("message") or ""
            sys.stdout.write(f"{event.name:<10} {event.progress:>4.0%}  {words}\n")
    return 0 if event is None or event.name == "done" else _FAILED


if __name__ == "__main__":
    sys.exit(main())
