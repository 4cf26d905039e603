"""The command line's own parts: photos and results, regions, and keys that continue an earlier run."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from services.cli import ArtMancerError, AsyncClient, arguments, batch, edits, photos
from services.cli.output import JsonReporter

SHA = "ab" * 32


def save(path: Path, size: tuple[int, int] = (8, 6), orientation: int = 1) -> Path:
    """Write a small photo and return its path."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, "navy").save(path, exif=exif)
    return path


def test_a_folder_is_its_photos(tmp_path: Path) -> None:
    """Without other files, and without the results of an earlier run; a photo that is named twice counts once."""
    for name in ("b.jpg", "a.png", "a-removed.png", "a-cut-out.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    found = photos.find_photos([str(tmp_path), str(tmp_path / "b.jpg"), str(tmp_path / "*.png")])

    assert [path.name for path in found] == ["a.png", "b.jpg"]


def test_a_result_that_is_named_can_be_edited_further(tmp_path: Path) -> None:
    """Only folders and patterns leave results out."""
    named = save(tmp_path / "a-removed.png")

    assert photos.find_photos([str(named)]) == [named]


def test_a_source_without_photos_is_an_error(tmp_path: Path) -> None:
    """It is probably misspelt."""
    with pytest.raises(ArtMancerError, match=r"There is no photo at .*nothing"):
        photos.find_photos([str(tmp_path / "nothing")])


@pytest.mark.parametrize(("photo", "options", "name"), [
    ("a.jpg", [], "a-removed.png"), ("a.JPG", ["--format", "original"], "a-removed.JPG"),
    ("a.heic", ["--format", "original"], "a-removed.jpg"), ("a.gif", ["--format", "original"], "a-removed.png"),
    ("a.heic", ["--format", "jpeg"], "a-removed.jpg"), ("a.jpg", ["--format", "avif"], "a-removed.avif"),
])  # fmt: skip
def test_a_result_is_named_after_its_format(photo: str, options: list[str], name: str) -> None:
    """So that other programs open it."""
    chosen = arguments.parse(["remove", photo, "--auto", *options])

    assert photos.target_of(Path(photo), chosen).name == name


def test_a_region_is_measured_on_the_upright_photo(tmp_path: Path) -> None:
    """A telephone's photo lies on its side in the file."""
    photo = save(tmp_path / "p.jpg", (8, 6), orientation=6)

    with Image.open(io.BytesIO(edits.draw_region(photo, (4, 7, 1, 2)))) as mask:
        white = np.argwhere(np.asarray(mask) == 255)

    assert mask.size == (6, 8)
    assert (white.min(axis=0).tolist(), white.max(axis=0).tolist()) == ([2, 1], [6, 3])


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP"])
def test_a_region_is_measured_as_the_server_turns_the_photo(tmp_path: Path, kind: str) -> None:
    """Neither XMP nor the EXIF data of a WebP turn it."""
    photo, packet = tmp_path / f"p.{kind.lower()}", b'<rdf:Description tiff:Orientation="6"/>'
    turned = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    more: dict[str, dict[str, Any]] = {"TIFF": {"tiffinfo": {700: packet}}, "JPEG": {}, "WEBP": {"exif": turned}}
    Image.new("RGB", (8, 6)).save(photo, kind, xmp=packet, **more[kind])

    with Image.open(io.BytesIO(edits.draw_region(photo, (1, 1, 2, 2)))) as mask:
        assert mask.size == (8, 6)


@pytest.mark.parametrize(
    "wrong",
    [["remove"], ["remove", "a", "--click", "1"], ["remove", "a", "--box", "1,2,x,4"], ["balance", "a", "--jobs", "0"],
     ["remove", "a"], ["remove", "a", "--auto", "--region", "1,1,2,2"], ["remove", "a", "--mask", "nowhere.png"],
     ["insert", "a", "--auto", "--reference", "nowhere.png"], ["remove", "a", "--region", "1,1,2,2", "--grow", "3"],
     ["balance", "a", "-o", "b.tif"], ["balance", "a", "-o", "b.png", "--format", "webp"],
     ["cut-out", "a", "--auto", "-o", "b.jpg"], ["balance", "a", "-o", "b.png", "--into", "c"]],
)  # fmt: skip
def test_wrong_arguments_are_a_sentence(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2, also where the result is there already."""
    with pytest.raises(SystemExit) as caught:
        arguments.parse(wrong)

    assert caught.value.code == 2
    assert "usage: artmancer" in capsys.readouterr().err


@pytest.mark.parametrize(("file", "kind"), [("b.JPG", "jpeg"), ("b.webp", "webp"), ("b.png", None)])
def test_the_name_of_the_result_chooses_its_format(file: str, kind: str | None) -> None:
    """A PNG is the stored one, unless --format asks for the camera data."""
    assert arguments.parse(["balance", "a", "-o", file]).format == kind
    assert arguments.parse(["balance", "a", "-o", "b.heic", "--format", "original"]).format == "original"


@pytest.mark.parametrize(
    "given", [["--json", "--url", "http://a", "balance", "a"], ["balance", "a", "--json", "--url", "http://a"]]
)
def test_the_server_may_stand_before_the_command_or_after_it(given: list[str]) -> None:
    """As people type it."""
    options = arguments.parse(given)

    assert (options.json, options.url, options.key) == (True, "http://a", None)


def test_a_region_of_a_file_that_pillow_cannot_open_is_a_sentence(tmp_path: Path) -> None:
    """Such as a HEIC; the server opens it."""
    photo = tmp_path / "a.heic"
    photo.write_bytes(b"x")

    with pytest.raises(ArtMancerError, match="--click"):
        edits.draw_region(photo, (1, 1, 2, 2))


class Server:
    """Plays /v1/jobs: `statuses` are the states of the jobs by the number in their keys."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = statuses
        self.keys: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        if request.method == "HEAD":
            return httpx.Response(200)
        if request.method == "POST":
            self.keys.append(request.headers["Idempotency-Key"])
        number = int(self.keys[-1].rpartition("-")[2])
        status = self.statuses[number - 1]
        if status == "gone":
            return httpx.Response(410, json={"code": "gone", "detail": "The job was deleted."})
        job = {"id": f"j{number}", "status": status, "error": None}
        if request.url.path.endswith("/events"):
            return httpx.Response(204)
        return (
            httpx.Response(200, content=b"png")
            if request.url.path.endswith("/result")
            else httpx.Response(200, json=job)
        )


async def run(server: Server, *given: str) -> list[batch.Outcome]:
    """Run a command against the server."""
    async with AsyncClient("http://gateway", transport=httpx.MockTransport(server), retry_s=0) as client:
        return await batch.run(client, arguments.parse(list(given)), JsonReporter())


async def test_a_second_run_continues_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key depends on the photo and the options alone."""
    photo, server = save(tmp_path / "p.jpg"), Server("done")
    await run(server, "balance", str(photo))
    (tmp_path / "p-balanced.png").unlink()
    await run(server, "balance", str(photo))
    await run(server, "balance", str(photo), "--strength", "0.5", "--overwrite")
    await run(server, "balance", str(photo))

    assert server.keys[0] == server.keys[1] != server.keys[2]
    assert (tmp_path / "p-balanced.png").read_bytes() == b"png"
    states = [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()]
    assert states == ["done", "done", "done", "skipped"]


async def test_an_edit_that_failed_before_gets_a_new_job(tmp_path: Path) -> None:
    """An edit with a deleted result also gets a new job."""
    server = Server("failed", "gone", "cancelled", "done")

    (outcome,) = await run(server, "balance", str(save(tmp_path / "p.jpg")))

    assert outcome.error is None
    assert [key.rpartition("-")[2] for key in server.keys] == ["1", "2", "3", "4"]


async def test_one_bad_photo_stops_no_other(tmp_path: Path) -> None:
    """Its error is in its outcome."""
    good, folder = save(tmp_path / "a.png"), tmp_path / "b.png"
    folder.write_bytes(b"")
    (tmp_path / "b-balanced.png").mkdir()

    outcomes = await run(Server("done"), "balance", str(good), str(folder), "--overwrite")

    assert [bool(outcome.error) for outcome in outcomes] == [False, True]
    assert sorted(os.listdir(tmp_path)) == ["a-balanced.png", "a.png", "b-balanced.png", "b.png"]  # noqa: PTH208


async def test_one_file_cannot_hold_two_results(tmp_path: Path) -> None:
    """Nothing is sent."""
    two = [str(save(tmp_path / name)) for name in ("a.png", "b.png")]

    with pytest.raises(ArtMancerError, match="--into"):
        await run(Server(), "balance", *two, "-o", str(tmp_path / "x.png"))
