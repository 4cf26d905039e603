"""The arguments of the command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .transport import DEFAULT_URL

_SELECTION = "the object: clicks, a box round it, the main object, an exact rectangle, or a mask file"
_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".avif": "avif"}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed arguments. Exits with 2 and a sentence if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="artmancer",
        description="Edit photos with an ArtMancer server. PHOTO is a file, a folder, or a pattern in quotes.",
    )
    _add_server(parser)
    parser.set_defaults(
        url=os.environ.get("ARTMANCER_URL") or DEFAULT_URL, key=os.environ.get("ARTMANCER_API_KEY"), json=False
    )
    server = argparse.ArgumentParser(add_help=False)
    _add_server(server)  # they may stand before the command or after it
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    photos, selection, edit, output, form = _photos(), _selection(), _edit(), _output(), _format()

    commands.add_parser("upload", parents=[server, photos], help="store photos and print their SHA-256")
    commands.add_parser("mask", parents=[server, photos, selection, output], help="find an object and save its mask")
    commands.add_parser("remove", parents=[server, photos, selection, edit, output, form], help="remove an object")
    insert = commands.add_parser(
        "insert", parents=[server, photos, selection, edit, output, form], help="insert an object"
    )
    insert.add_argument("--reference", type=Path, required=True, help="the photo of the object")
    insert.add_argument("--reference-mask", type=Path, help="a mask file of the object in that photo")
    balance = commands.add_parser("balance", parents=[server, photos, output, form], help="correct the white balance")
    balance.add_argument("--strength", type=float, help="0 to 1")
    balance.add_argument("--temperature", type=float, help="-100 to 100, positive is warmer")
    cut_out = commands.add_parser("cut-out", parents=[server, photos, selection, output], help="cut an object out")
    cut_out.add_argument("--full-size", action="store_true", help="in the photo's size, instead of in a small square")
    for name, text in (("watch", "follow a job to its end"), ("receipt", "print a job's receipt")):
        commands.add_parser(name, parents=[server], help=text).add_argument("job", help="the id of the job")
    options = parser.parse_args(arguments)
    if wrong := _find_wrong(options):
        commands.choices[options.command].error(wrong)
    return options


def _add_server(parser: argparse.ArgumentParser) -> None:
    missing = argparse.SUPPRESS
    parser.add_argument("--url", default=missing, help="or ARTMANCER_URL")
    parser.add_argument("--key", default=missing, help="an API key, or ARTMANCER_API_KEY")
    parser.add_argument("--json", action="store_true", default=missing, help="print one JSON object a line")


def _find_wrong(options: argparse.Namespace) -> str | None:
    """Return a sentence if the arguments contradict each other or name no file; else complete them."""
    wrong = None
    if "click" in options:
        wrong = _find_wrong_selection(options)
    if not wrong and options.command in {"remove", "insert", "balance", "mask", "cut-out"} and options.output:
        wrong = _find_wrong_output(options)
    files = [getattr(options, name, None) for name in ("mask", "reference", "reference_mask")]
    missing = next((path for path in files if path is not None and not path.is_file()), None)
    return wrong or (None if missing is None else f"There is no file {missing}.")


def _find_wrong_selection(options: argparse.Namespace) -> str | None:
    prompted = bool(options.click or options.off or options.box)
    kinds = [prompted, options.auto, options.region is not None, options.mask is not None]
    if not any(kinds):
        return "Mark the object with --click, --box, --region, --mask or --auto."
    if sum(kinds) > 1:
        return "Choose one: --auto, --region, --mask, or clicks and a box."
    if options.grow is not None and not (prompted or options.auto):
        return "--grow changes a mask that the server finds: use it with --click, --box or --auto."
    return None


def _find_wrong_output(options: argparse.Namespace) -> str | None:
    """Check the ending of the file, and let it choose the format."""
    if options.into:
        return "Choose one: --output or --into."
    if getattr(options, "format", None) == "original":
        return None
    found = _FORMATS.get(options.output.suffix.lower())
    if "format" not in options and found != "png":
        return f"The {options.command} is a PNG: --output must end with .png."
    if found is None:
        return f"--output must end with one of {', '.join(_FORMATS)}."
    if "format" in options and options.format is None and found != "png":
        options.format = found
    if getattr(options, "format", None) not in {None, found}:
        return f"--output ends with {options.output.suffix}, and --format is {options.format}."
    return None


def _photos() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("photos", nargs="+", metavar="PHOTO")
    return parser


def _selection() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("selection", _SELECTION)
    group.add_argument("--click", type=_point, action="append", default=[], metavar="X,Y", help="on the object")
    group.add_argument("--not", type=_point, action="append", default=[], metavar="X,Y", dest="off", help="beside it")
    group.add_argument("--box", type=_box, metavar="X0,Y0,X1,Y1")
    group.add_argument("--auto", action="store_true", help="the main object")
    group.add_argument("--region", type=_box, metavar="X0,Y0,X1,Y1", help="exactly this rectangle")
    group.add_argument("--mask", type=Path, help="a mask file, white on the object")
    group.add_argument("--grow", type=int, metavar="PIXELS", help="grow a found mask, or shrink it if negative")
    return parser


def _edit() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--prompt")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    return parser


def _format() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    formats = ("original", "png", "jpeg", "webp", "avif")
    text = "with the photo's camera data; original: as the photo came. Default: the stored PNG"
    parser.add_argument("--format", choices=formats, help=text)
    return parser


def _output() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-o", "--output", type=Path, help="the file to write, for one photo")
    parser.add_argument("--into", type=Path, help="the folder to write to; default: beside each photo")
    parser.add_argument("--overwrite", action="store_true", help="write again what is there already")
    parser.add_argument("--jobs", type=_count, default=4, help="edits at once (%(default)s)")
    return parser


def _numbers(text: str, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise argparse.ArgumentTypeError(f"{text!r} must be {count} numbers with commas between them")
    return values


def _point(text: str) -> tuple[float, ...]:
    return _numbers(text, 2)


def _box(text: str) -> tuple[float, ...]:
    return _numbers(text, 4)


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return int(text)
