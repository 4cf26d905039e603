"""The command `python -m services.models list|pull|verify|add`: fills MODEL_DIR and checks its files."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.models import inventory, own_adapters
from shared.errors import EXIT_CONFIG, ArtMancerError, BadInput, ConfigError, Unavailable
from shared.volumes import AdapterFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.models.manifest import Model

_INTERRUPTED = 130
_BASES = {version: f"Qwen-Image-Edit-{version}" for version in ("2509", "2511")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|pull|verify|add")
    for name, text in (
        ("list", "show all models"), ("pull", "fetch models, or go on fetching"), ("verify", "read every byte again"),
    ):  # fmt: skip
        command = commands.add_parser(name, help=text)
        command.add_argument("names", nargs="*", metavar="name", help="models; for none, the default ones")
    pull = commands.choices["pull"]
    pull.add_argument("--from", dest="origin", type=Path, metavar="DIR", help="copy from this folder instead")
    pull.add_argument("--renew", action="store_true", help="accept other files than those that were locked")
    add = commands.add_parser("add", help="store an adapter of your own in MODEL_DIR/qwen")
    add.add_argument("name", metavar="task", help=", ".join(own_adapters.NAMES))
    add.add_argument("file", nargs="?", type=Path, help="a safetensors file; standard input for none")
    add.add_argument("--base", choices=_BASES, help="the version that it was trained on")
    add.add_argument("--recipe", help="the worker's recipe that it was trained for")
    add.add_argument("--words", help="the words that it was trained with")
    add.add_argument("--licence")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; return the exit code."""
    given = _parser().parse_args(arguments)
    folder = Path(os.environ.get("MODEL_DIR", ".models"))
    # The hub's library reads it at its import. Plain HTTP works with any mirror and keeps no cache outside the volume.
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    commands: dict[str, Callable[[argparse.Namespace, Path], None]] = {
        "list": _list, "pull": _pull, "verify": _verify, "add": _add,
    }  # fmt: skip
    try:
        commands[given.command](given, folder)
    except ConfigError as error:
        return _fail(error.message, EXIT_CONFIG)
    except ArtMancerError as error:
        return _fail(error.message)
    except OSError as error:  # mostly a full disk, whose error contains no file name
        where = error.filename or f"{folder}, which MODEL_DIR names"
        return _fail(f"{given.command.capitalize()} ended at {where}: {error.strerror}.")
    except KeyboardInterrupt:
        return _fail("Interrupted. The next pull goes on with the files that have arrived.", _INTERRUPTED)
    return 0


def _fail(message: str, code: int = 1) -> int:
    print(message, file=sys.stderr)
    return code


def _list(given: argparse.Namespace, folder: Path) -> None:
    for model in inventory.select(given.names, inventory.ALL):
        state = inventory.problem(model, folder, read=False) or "here"
        print(f"{model.name:<10} {_size(model, folder):>11}  {model.licence:<12} {state:<10} {model.purpose}")


def _pull(given: argparse.Namespace, folder: Path) -> None:
    for model in inventory.select(given.names):
        waiting = _announce_waiting(model.name)
        fetched = inventory.pull(model, folder, given.origin, renew=given.renew, waiting=waiting)
        print(f"{model.name}: {'fetched' if fetched else 'here already'}, {_size(model, folder)}, {model.licence}")


def _verify(given: argparse.Namespace, folder: Path) -> None:
    for model in inventory.select(given.names):
        if found := inventory.problem(model, folder):
            raise Unavailable(f"{model.name} is {found}; `python -m services.models pull {model.name}` fetches it.")
        print(f"{model.name}: all bytes are as they should be")


def _add(given: argparse.Namespace, folder: Path) -> None:
    facts = AdapterFacts(base=_BASES.get(given.base), recipe=given.recipe, words=given.words, licence=given.licence)
    waiting = _announce_waiting(own_adapters.FOLDER)
    if given.file is None:
        size = own_adapters.add(given.name, sys.stdin.buffer, facts, folder, waiting)
    else:
        try:
            file = given.file.open("rb")
        except OSError as error:
            raise BadInput(f"Cannot read {given.file}: {error.strerror}.") from error
        with file:
            size = own_adapters.add(given.name, file, facts, folder, waiting)
    print(f"{given.name}: added, {size / 1e6:,.1f} MB")


def _announce_waiting(name: str) -> Callable[[], object]:
    return lambda: print(f"{name}: waiting for another pull to end", file=sys.stderr)


def _size(model: Model, folder: Path) -> str:
    size = inventory.size_bytes(model, folder)
    return "? MB" if size is None else f"{size / 1e6:,.1f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
