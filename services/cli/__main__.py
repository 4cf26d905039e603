"""The command line: `python -m services.cli`, installed as `artmancer`."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

from . import arguments, batch, photos
from .async_client import AsyncClient
from .errors import ApiError, ArtMancerError, WrongArguments
from .output import JsonReporter, TerminalReporter, print_json

if TYPE_CHECKING:
    from argparse import Namespace

_FAILED, _WRONG, _INTERRUPTED = 1, 2, 130


def main() -> int:
    """Run a command. Return 0, 1 if anything failed, 2 for wrong arguments, 130 after Ctrl-C: repeat it to go on."""
    options = arguments.parse()
    try:
        return asyncio.run(_run(options))
    except ArtMancerError as error:
        sys.stderr.write(f"artmancer: {error}\n")
        return _WRONG if isinstance(error, WrongArguments) else _FAILED
    except KeyboardInterrupt:
        sys.stderr.write("artmancer: Interrupted. The jobs go on; repeat the command to fetch their results.\n")
        return _INTERRUPTED
    except (BrokenPipeError, ExceptionGroup) as error:  # for the tasks that edit photos
        if isinstance(error, ExceptionGroup) and error.split(BrokenPipeError)[1] is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes it at its end
        return _FAILED


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
    code = 0
    for photo in photos.find_photos(options.photos):
        sha256, error = None, None
        try:
            sha256 = await client.upload(photo)
        except ApiError as refusal:
            error = str(refusal)
        except OSError as failure:
            error = f"{failure.strerror or failure}."
        code = _FAILED if error else code
        if options.json:
            print_json({"photo": str(photo), "sha256": sha256, "error": error})
        elif error:
            sys.stderr.write(f"{photo}: {error}\n")
        else:
            sys.stdout.write(f"{sha256}  {photo}\n")
    return code


async def _watch(client: AsyncClient, options: Namespace) -> int:
    event = None
    async with aclosing(client.events(options.job)) as events:
        async for event in events:
            if options.json:
                print_json({"id": event.id, "event": event.name, **event.data})
            else:
                words = event.data.get("message") or ""
                sys.stdout.write(f"{event.name:<10} {event.progress:>4.0%}  {words}\n")
                sys.stdout.flush()
    return 0 if event is None or event.name == "done" else _FAILED


if __name__ == "__main__":
    sys.exit(main())
