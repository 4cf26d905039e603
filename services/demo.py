"""`python -m services.demo`: edits the sample photos through the running stack, over HTTP like any client.

It finds masks, cuts an object out, removes, inserts and balances, and writes every picture and one contact sheet.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLES = Path(__file__).parent / "gateway" / "static" / "samples"
_TUNGSTEN = (1.0, 0.78, 0.5)  # a warm cast, as a lamp gives it; to be taken out again
_START_S = 60.0
_TILE_PX = 300
_GROUND = (24, 25, 28)


@dataclass(frozen=True, slots=True)
class Shot:
    """One line of the contact sheet."""

    title: str
    before: Image.Image
    mask: Image.Image | None
    after: Image.Image


class Api:
    """The few calls of the gateway's /api that an edit needs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST JSON and return the answer. Raises RuntimeError with the gateway's own sentence."""
        request = urllib.request.Request(  # noqa: S310 (the user's own http address)
            self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
                parsed: dict[str, Any] = json.load(answer)
                return parsed
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["detail"]) from error

    def mask(self, picture: Image.Image, **prompt: object) -> Image.Image:
        """Find the mask that a prompt points at."""
        answer = self.post("/api/smart-mask", {"image": _base64(picture), **prompt})
        return _picture(answer["mask_base64"]).convert("L")

    def extract(self, picture: Image.Image, mask: Image.Image) -> Image.Image:
        """Cut the object out, onto a white square."""
        answer = self.post("/api/image-utils/extract-object", {"image": _base64(picture), "mask": _base64(mask)})
        return _picture(answer["extracted_image"])

    def edit(self, title: str, picture: Image.Image, **fields: object) -> Image.Image:
        """Run one job to its end, with a progress bar, and fetch the result."""
        job = self.post("/api/generate/async", {"prompt": "", "input_image": _base64(picture), **fields})["task_id"]
        with urllib.request.urlopen(f"{self._url}/api/generate/stream/{job}", timeout=120) as stream:  # noqa: S310
            for line in stream:
                if line.startswith(b"data:"):
                    _draw_bar(title, json.loads(line[5:]))
        print()
        try:
            with urllib.request.urlopen(f"{self._url}/api/generate/result-image/{job}", timeout=60) as answer:  # noqa: S310
                return Image.open(io.BytesIO(answer.read())).convert("RGB")
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["detail"]) from error


def _draw_bar(title: str, event: dict[str, Any]) -> None:
    filled = round(float(event.get("progress") or 0) * 30)
    step = f"step {event['current_step']}/{event['total_steps']}" if event.get("current_step") else ""
    print(f"\r  {title:<28} [{'#' * filled:<30}] {event.get('status', ''):<12} {step:<14}", end="", flush=True)


def remove_shuttle(api: Api) -> Shot:
    """A box finds the model shuttle behind the astronaut; it goes."""
    photo = _sample("astronaut")
    mask = api.mask(photo, bbox=[345, 0, 480, 290], border_adjustment=20)
    after = api.edit("remove the shuttle", photo, task_type="removal", **_masked(mask, "brush"))
    return Shot("remove", photo, mask, after)


def remove_rocket(api: Api) -> Shot:
    """One click finds the rocket between the towers; it goes."""
    photo = _sample("rocket")
    mask = api.mask(photo, points=[[330, 200]])
    after = api.edit("remove the rocket", photo, task_type="removal", **_masked(mask, "brush"))
    return Shot("remove", photo, mask, after)


def insert_shuttle(api: Api) -> Shot:
    """The shuttle of one photo is cut out and set beside the rocket of another."""
    source, photo = _sample("astronaut"), _sample("rocket")
    cut = api.mask(source, bbox=[345, 0, 465, 290])
    place = Image.new("L", photo.size)
    ImageDraw.Draw(place).rectangle((205, 205, 285, 405), fill=255)
    after = api.edit(
        "insert the shuttle",
        photo,
        task_type="insertion",
        reference_image=_base64(api.extract(source, cut)),
        reference_mask_R=_base64(cut),
        **_masked(place, "box"),
    )
    return Shot("insert", photo, place, after)


def balance_cat(api: Api) -> Shot:
    """The cat, under a warm lamp that was never there."""
    photo = Image.merge(
        "RGB",
        [
            band.point([round(i * gain) for i in range(256)])
            for band, gain in zip(_sample("cat").split(), _TUNGSTEN, strict=True)
        ],
    )
    return Shot("white balance", photo, None, api.edit("balance the light", photo, task_type="white-balance"))


def extract_cup(api: Api) -> Shot:
    """Auto-detection finds the cup; it is cut out for another picture."""
    photo = _sample("coffee")
    mask = api.mask(photo, auto_detect=True)
    return Shot("extract", photo, mask, api.extract(photo, mask))


SHOTS: tuple[Callable[[Api], Shot], ...] = (extract_cup, remove_shuttle, remove_rocket, insert_shuttle, balance_cat)


def _masked(mask: Image.Image, tool: str) -> dict[str, object]:
    encoded = _base64(mask)
    return {"conditional_images": [encoded], "mask_image": encoded, "mask_tool_type": tool}


def _sample(name: str) -> Image.Image:
    return Image.open(SAMPLES / f"{name}.jpg").convert("RGB")


def _base64(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def _picture(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def contact_sheet(shots: list[Shot]) -> Image.Image:
    """Lay out before, mask and after, one line for each shot."""
    lines = [_line(shot) for shot in shots]
    sheet = Image.new("RGB", (lines[0].width, sum(line.height for line in lines)), _GROUND)
    top = 0
    for line in lines:
        sheet.paste(line, (0, top))
        top += line.height
    return sheet


def _line(shot: Shot) -> Image.Image:
    tiles = [("before", shot.before), ("mask", shot.mask), (f"after: {shot.title}", shot.after)]
    small = [(label, None if picture is None else _thumbnail(picture)) for label, picture in tiles]
    line = Image.new("RGB", (3 * (_TILE_PX + 16) + 16, max(tile.height for _, tile in small if tile) + 40), _GROUND)
    draw, font = ImageDraw.Draw(line), ImageFont.load_default(15)
    for column, (label, tile) in enumerate(small):
        if tile is None:
            continue
        x = 16 + column * (_TILE_PX + 16)
        draw.text((x, 12), label, fill=(200, 202, 208), font=font)
        line.paste(tile, (x, 34))
    return line


def _thumbnail(picture: Image.Image) -> Image.Image:
    small = picture.convert("RGB")
    small.thumbnail((_TILE_PX, _TILE_PX), Image.Resampling.LANCZOS)
    return small


@contextmanager
def _stack(url: str) -> Iterator[str]:
    """Use the stack that runs at the address; where none does, start one for the time of the demo."""
    if _answers(url):
        yield url
        return
    print(f"nothing answers at {url}; starting the stack for this demo")
    process = subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-m", "services", "--port", url.rpartition(":")[2]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        give_up = time.monotonic() + _START_S
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError("The stack did not start; `make run` says why.")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/system/health", timeout=5) as answer:  # noqa: S310
            return bool(json.load(answer)["status"] == "healthy")
    except OSError:
        return False


def main() -> None:
    """Run all shots and say where the pictures are."""
    parser = argparse.ArgumentParser(prog="python -m services.demo", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with _stack(options.url) as url:
            shots = []
            for number, shoot in enumerate(SHOTS, 1):
                shot = shoot(Api(url))
                shot.before.save(options.out / f"{number}-{shoot.__name__}-before.png")
                shot.after.save(options.out / f"{number}-{shoot.__name__}-after.png")
                shots.append(shot)
        contact_sheet(shots).save(options.out / "contact-sheet.png")
    except (RuntimeError, OSError) as error:
        sys.exit(f"demo: {error}")
    print(f"{len(shots)} edits; open {options.out / 'contact-sheet.png'}")


if __name__ == "__main__":
    main()
