"""Sends the test pictures of Pillow and pillow-heif through the system, beside how Chromium shows them.

    pip download --no-binary :all: --no-deps pillow pillow-heif
    python -m tests.benchmarks.corpus pillow-*.tar.gz pillow_heif-*.tar.gz --record corpus.jsonl

All of them take half an hour. With `--seconds` a run starts no picture after that time. The next run with the same
record continues, and prints the report of the whole record.

Each picture is uploaded; if it is accepted, a spot is removed, an object is cut out, and the result is downloaded as it
came. The table has a line for each suffix. Below it stands each file that Chromium shows and we refuse or show in
another way, each fault, and each line of the log that is no JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from PIL import Image
from playwright.async_api import Error, async_playwright

from shared.image_codec import decode_photo
from tests.benchmarks.measuring.servers import running_stack
from tests.browser.conftest import SWITCHES
from tests.browser.shown import show_on
from tests.chromium import find_chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.async_api import Page

    from tests.browser.shown import Shown

_TIMEOUT_S = 120.0
_AT_ONCE = 2
_REFUSED = 400
_ROUNDING = 2.5  # levels: two decoders
_LARGEST_SHOWN_BYTES = 8_000_000  # of files with pixels that are read from a canvas
_ROW = "{:<8}{:>7}{:>10}{:>10}{:>9}{:>10}"


@dataclass(slots=True)
class Passage:
    """One picture's way through the system. `refusal` is the answer to its upload, "" if it was accepted."""

    name: str
    refusal: str = ""
    shown: bool = False
    difference: str = ""
    faults: list[str] = field(default_factory=list)

    @property
    def suffix(self) -> str:
        """The end of its name."""
        return PurePosixPath(self.name).suffix.lower() or "-"


def read_pictures(archives: list[Path], match: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the test pictures in source archives."""
    for archive in archives:
        with tarfile.open(archive) as file:
            for member in file:
                path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
                if member.isfile() and str(path).lower().startswith("tests/images/") and path.match(match):
                    content = file.extractfile(member)
                    assert content is not None
                    yield f"{archive.name.partition('-')[0]}/{path.relative_to(*path.parts[:2])}", content.read()


class Traveller:
    """Takes pictures through a running system and past the browser."""

    def __init__(self, client: httpx.AsyncClient, page: Page) -> None:
        self._client = client
        self._page = page

    async def take(self, name: str, data: bytes) -> Passage:
        """Return the outcome of a picture."""
        passage = Passage(name)
        shown = await self._show(data)
        passage.shown = shown is not None
        answer = await self._call(passage, "upload", "POST", "/v1/images", content=data)
        if answer is None or answer.status_code >= _REFUSED:
            passage.refusal = "no answer" if answer is None else _detail(answer)
            return passage
        photo = answer.json()
        answer = await self._call(passage, "mask", "POST", "/v1/images", content=_mask(photo["width"], photo["height"]))
        if answer is None or answer.status_code >= _REFUSED:
            passage.faults.append("the mask was refused")
            return passage
        images = {"image": photo["sha256"], "mask": answer.json()["sha256"]}
        await self._expect(passage, "extraction", "POST", "/v1/extractions", json=images)
        if photo["width"] * photo["height"] > 1:  # of one pixel nothing would be left to fill the spot from
            await self._remove(passage, images, shown)
        return passage

    async def _remove(self, passage: Passage, images: dict[str, str], shown: Shown | None) -> None:
        answer = await self._expect(passage, "submission", "POST", "/v1/jobs", json={"task": "removal", **images})
        if answer is None:
            return
        path = f"/v1/jobs/{answer.json()['id']}"
        await self._call(passage, "events", "GET", f"{path}/events")  # ends with the job
        result = await self._expect(passage, "result", "GET", f"{path}/result")
        original = await self._expect(passage, "original", "GET", f"{path}/result?format=original")
        if result is None or original is None:
            return
        size = decode_photo(original.content).rgb.shape[1::-1]
        here = await self._show(result.content)
        if here is not None and size != here.size:
            passage.faults.append(f"original has {size}, the result {here.size}")
        receipt = await self._expect(passage, "receipt", "GET", f"{path}/receipt")
        if shown is not None and here is not None and receipt is not None:
            passage.difference = _differ(here, shown, receipt.json()["changed_box"])

    async def _show(self, data: bytes) -> Shown | None:
        if len(data) > _LARGEST_SHOWN_BYTES:
            return None
        try:
            return await show_on(self._page, data)
        except Error:  # the canvas has a limit of its own
            return None

    async def _expect(self, passage: Passage, step: str, method: str, path: str, **body: Any) -> httpx.Response | None:
        answer = await self._call(passage, step, method, path, **body)
        if answer is not None and answer.status_code >= _REFUSED:
            passage.faults.append(f"{step}: {answer.status_code} {_detail(answer)}")
            return None
        return answer

    async def _call(self, passage: Passage, step: str, method: str, path: str, **body: Any) -> httpx.Response | None:
        try:
            answer = await self._client.request(method, path, **body)
        except httpx.TransportError as error:
            passage.faults.append(f"{step}: {type(error).__name__}")
            return None
        if answer.status_code >= 500:
            passage.faults.append(f"{step}: {answer.status_code}")
        return answer


def _detail(answer: httpx.Response) -> str:
    return str(answer.json().get("detail", answer.text))


def _mask(width: int, height: int) -> bytes:
    """Return a mask of a spot in the middle, at most 32 px a side."""
    mask = Image.new("L", (width, height))
    across, down = min(32, max(1, width // 4)), min(32, max(1, height // 4))
    mask.paste(255, (width // 2, height // 2, width // 2 + across, height // 2 + down))
    file = io.BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()


def _differ(here: Shown, shown: Shown, changed_box: list[int] | None) -> str:
    """Return how a shown result differs from the shown upload outside the edit; an empty text if it does not."""
    if here.size != shown.size:
        return f"{here.size} here, {shown.size} in Chromium"
    difference = np.abs(here.on_white - shown.on_white).max(axis=2)
    left, top, width, height = changed_box or (0, 0, 0, 0)
    difference[top : top + height, left : left + width] = 0
    share = float((difference > _ROUNDING).mean())
    return "" if not share else f"up to {difference.max():.0f} levels in {100 * share:.2g} % of the pixels"


@dataclass(frozen=True, slots=True)
class Record:
    """The passages so far, a line of JSON each, and the noise in the logs, a line of text each."""

    file: Path

    def read(self) -> tuple[list[Passage], list[str]]:
        """Return the passages and the noise."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        entries = [json.loads(line) for line in lines]
        passages = [Passage(**entry) for entry in entries if isinstance(entry, dict)]
        return sorted(passages, key=lambda passage: passage.name), [text for text in entries if isinstance(text, str)]

    def add(self, entry: Passage | str) -> None:
        """Append an entry."""
        with self.file.open("a") as file:
            file.write(json.dumps(entry if isinstance(entry, str) else asdict(entry)) + "\n")


async def travel(url: str, pictures: Iterator[tuple[str, bytes]], record: Record) -> None:
    """Take all pictures, two at once."""
    async with (
        async_playwright() as playwright,
        httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S) as client,
        await playwright.chromium.launch(executable_path=find_chromium(), args=SWITCHES) as browser,
    ):

        async def take_all() -> None:
            traveller = Traveller(client, await browser.new_page())
            for name, data in pictures:
                record.add(await traveller.take(name, data))

        async with asyncio.TaskGroup() as group:
            for number in range(_AT_ONCE):
                group.create_task(take_all(), name=f"corpus.{number}")


def report(passages: list[Passage], noise: list[str]) -> Iterator[str]:
    """Yield the table, then the lists below it."""
    by_suffix: dict[str, list[Passage]] = defaultdict(list)
    for passage in passages:
        by_suffix[passage.suffix].append(passage)
    yield _ROW.format("suffix", "files", "Chromium", "accepted", "both", "neither")
    for suffix, group in [*sorted(by_suffix.items()), ("all", passages)]:
        accepted = [passage for passage in group if not passage.refusal]
        both = sum(passage.shown for passage in accepted)
        shown = sum(passage.shown for passage in group)
        neither = len(group) - len(accepted) - shown + both
        yield _ROW.format(suffix, len(group), shown, len(accepted), both, neither)
    refused = [f"{each.name}: {each.refusal}" for each in passages if each.refusal and each.shown]
    differing = [f"{each.name}: {each.difference}" for each in passages if each.difference]
    faults = [f"{each.name}: {fault}" for each in passages for fault in each.faults]
    for title, lines in [
        ("Chromium shows it, and it is refused", refused), ("It differs from Chromium", differing),
        ("Faults", faults), ("Log lines that are no JSON", noise),
    ]:  # fmt: skip
        yield f"\n{title}: {len(lines)}"
        yield from (f"  {line}" for line in lines)


def _find_noise(log: Path) -> list[str]:
    """Return the lines of our services that are no JSON. The launcher writes the name of a process before each."""
    lines = [line.strip().partition(" | ") for line in log.read_text(errors="replace").splitlines()]
    ours = [(name.strip(), text) for name, _, text in lines if text and name.strip() not in {"nats", "stack"}]
    return [f"{name}: {text}" for name, text in ours if not _is_json(text)]


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def main() -> None:
    """Read the command line, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="+", type=Path, help="source archives from the package index")
    parser.add_argument("--match", default="*", help="only files with names of this form, such as *.tif")
    parser.add_argument("--record", type=Path, required=True, help="the passages; those in it are not repeated")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="the time after which to take no more")
    options = parser.parse_args()
    record, until = Record(options.record), time.monotonic() + options.seconds
    known = {passage.name for passage in record.read()[0]}
    pictures = (one for one in read_pictures(options.archives, options.match) if one[0] not in known)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"LOG_FORMAT": "json", "A100WORKER_BACKEND": "classical"}
        with running_stack(Path(folder), **settings) as stack:
            asyncio.run(travel(stack.url, takewhile(lambda _: time.monotonic() < until, pictures), record))
        for line in _find_noise(Path(folder) / "log"):
            record.add(line)
    sys.stdout.writelines(f"{line}\n" for line in report(*record.read()))


if __name__ == "__main__":
    main()
