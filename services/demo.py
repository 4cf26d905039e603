"""`python -m services.demo` edits the sample photos through the running stack, over HTTP like any client.

It finds masks, extracts, removes and inserts objects, balances a photo, and writes all images and a contact sheet.
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
from urllib.parse import urlsplit

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLES = Path(__file__).parent / "gateway" / "static" / "samples"
_TUNGSTEN = (1.0, 0.78, 0.5)  # RGB gains: the warm cast of a lamp, which the white balance removes
_START_S = 60.0
_TILE_PX = 300
_BACKGROUND = (24, 25, 28)


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the contact sheet."""

    title: str
    before: Image.Image
    mask: Image.Image | None
    after: Image.Image


class Api:
    """The few calls of /api that an edit needs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open = opener(url)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST JSON and return the JSON response. Raises RuntimeError with the error text of the gateway."""
        request = urllib.request.Request(  # noqa: S310 (the user's own http address)
            self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with self._open(request, timeout=120) as answer:
                parsed: dict[str, Any] = json.load(answer)
                return parsed
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["detail"]) from error

    def mask(self, image: Image.Image, **prompt: object) -> Image.Image:
        """Return the mask for a prompt."""
        answer = self.post("/api/smart-mask", {"image": _encode(image), **prompt})
        return _decode(answer["mask_base64"]).convert("L")

    def extract(self, image: Image.Image, mask: Image.Image) -> Image.Image:
        """Return the object on a white square."""
        answer = self.post("/api/image-utils/extract-object", {"image": _encode(image), "mask": _encode(mask)})
        return _decode(answer["extracted_image"])

    def edit(self, title: str, image: Image.Image, **fields: object) -> Image.Image:
        """Run one job to its end, with a progress bar, and return the result."""
        job = self.post("/api/generate/async", {"prompt": "", "input_image": _encode(image), **fields})["task_id"]
        with self._open(f"{self._url}/api/generate/stream/{job}", timeout=120) as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    _draw_bar(title, json.loads(line[5:]))
        print()
        try:
            with self._open(f"{self._url}/api/generate/result-image/{job}", timeout=60) as answer:
                return Image.open(io.BytesIO(answer.read())).convert("RGB")
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["detail"]) from error


def opener(url: str) -> Callable[..., Any]:
    """Return the function that opens this address, without a proxy if it is on this machine."""
    local = urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}
    return urllib.request.build_opener(urllib.request.ProxyHandler({} if local else None)).open


def _draw_bar(title: str, event: dict[str, Any]) -> None:
    filled = round(float(event.get("progress") or 0) * 30)
    step = f"step {event['current_step']}/{event['total_steps']}" if event.get("current_step") else ""
    print(f"\r  {title:<28} [{'#' * filled:<30}] {event.get('status', ''):<12} {step:<14}", end="", flush=True)


def remove_shuttle(api: Api) -> Example:
    """Remove the model shuttle behind the astronaut; a box finds it."""
    photo = _sample("astronaut")
    mask = api.mask(photo, bbox=[345, 0, 480, 290], border_adjustment=20)
    after = api.edit("remove the shuttle", photo, task_type="removal", **_mask_fields(mask, "brush"))
    return Example("remove", photo, mask, after)


def remove_rocket(api: Api) -> Example:
    """Remove the rocket between the towers; one click finds it."""
    photo = _sample("rocket")
    mask = api.mask(photo, points=[[330, 200]])
    after = api.edit("remove the rocket", photo, task_type="removal", **_mask_fields(mask, "brush"))
    return Example("remove", photo, mask, after)


def insert_shuttle(api: Api) -> Example:
    """Extract the shuttle of one photo and insert it beside the rocket of another."""
    source, photo = _sample("astronaut"), _sample("rocket")
    cut = api.mask(source, bbox=[345, 0, 465, 290])
    place = Image.new("L", photo.size)
    ImageDraw.Draw(place).rectangle((205, 205, 285, 405), fill=255)
    after = api.edit(
        "insert the shuttle",
        photo,
        task_type="insertion",
        reference_image=_encode(api.extract(source, cut)),
        reference_mask_R=_encode(cut),
        **_mask_fields(place, "box"),
    )
    return Example("insert", photo, place, after)


def balance_cat(api: Api) -> Example:
    """Balance the cat under an artificial warm cast."""
    photo = Image.merge(
        "RGB",
        [
            band.point([round(i * gain) for i in range(256)])
            for band, gain in zip(_sample("cat").split(), _TUNGSTEN, strict=True)
        ],
    )
    return Example("white balance", photo, None, api.edit("balance the light", photo, task_type="white-balance"))


def extract_cup(api: Api) -> Example:
    """Extract the cup; auto-detection finds it."""
    photo = _sample("coffee")
    mask = api.mask(photo, auto_detect=True)
    return Example("extract", photo, mask, api.extract(photo, mask))


EXAMPLES: tuple[Callable[[Api], Example], ...] = (
    extract_cup,
    remove_shuttle,
    remove_rocket,
    insert_shuttle,
    balance_cat,
)


def _mask_fields(mask: Image.Image, tool: str) -> dict[str, object]:
    encoded = _encode(mask)
    return {"conditional_images": [encoded], "mask_image": encoded, "mask_tool_type": tool}


def _sample(name: str) -> Image.Image:
    return Image.open(SAMPLES / f"{name}.jpg").convert("RGB")


def _encode(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def _decode(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def contact_sheet(examples: list[Example]) -> Image.Image:
    """Lay out before, mask and after, one row for each example."""
    rows = [_row(example) for example in examples]
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), _BACKGROUND)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _row(example: Example) -> Image.Image:
    tiles = [("before", example.before), ("mask", example.mask), (f"after: {example.title}", example.after)]
    small = [(label, None if image is None else _thumbnail(image)) for label, image in tiles]
    row = Image.new("RGB", (3 * (_TILE_PX + 16) + 16, max(tile.height for _, tile in small if tile) + 40), _BACKGROUND)
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(15)
    for column, (label, tile) in enumerate(small):
        if tile is None:
            continue
        x = 16 + column * (_TILE_PX + 16)
        draw.text((x, 12), label, fill=(200, 202, 208), font=font)
        row.paste(tile, (x, 34))
    return row


def _thumbnail(image: Image.Image) -> Image.Image:
    small = image.convert("RGB")
    small.thumbnail((_TILE_PX, _TILE_PX), Image.Resampling.LANCZOS)
    return small


@contextmanager
def _stack(url: str) -> Iterator[str]:
    """Yield the URL of the running stack, or start one for the demo."""
    if _answers(url):
        yield url
        return
    print(f"No stack answers at {url}. Starting one for the demo.")
    process = subprocess.Popen(  # noqa: S603 (the command is fixed)
        [sys.executable, "-m", "services", "--port", url.rpartition(":")[2]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        give_up = time.monotonic() + _START_S
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError("The stack did not start. Run `make run` to see the reason.")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with opener(url)(f"{url}/api/system/health", timeout=5) as answer:
            return bool(json.load(answer)["status"] == "healthy")
    except OSError:
        return False


def main() -> None:
    """Run all examples and print the path of the contact sheet."""
    parser = argparse.ArgumentParser(prog="python -m services.demo", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with _stack(options.url) as url:
            examples = []
            for number, run_example in enumerate(EXAMPLES, 1):
                example = run_example(Api(url))
                example.before.save(options.out / f"{number}-{run_example.__name__}-before.png")
                example.after.save(options.out / f"{number}-{run_example.__name__}-after.png")
                examples.append(example)
        contact_sheet(examples).save(options.out / "contact-sheet.png")
    except (RuntimeError, OSError) as error:
        sys.exit(f"demo: {error}")
    print(f"{len(examples)} edits. Open {options.out / 'contact-sheet.png'}")


if __name__ == "__main__":
    main()
