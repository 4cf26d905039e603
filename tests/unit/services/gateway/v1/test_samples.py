"""The sample photos."""

from __future__ import annotations

from PIL import Image

from services.gateway.http.static_files import FOLDER
from services.gateway.v1.samples import load_samples


def test_every_bundled_photo_is_listed_with_its_credit() -> None:
    """Each photo needs a credit."""
    names = sorted(path.stem for path in (FOLDER / "samples").glob("*.jpg"))

    assert sorted(sample.name for sample in load_samples()) == names
    assert all(sample.credit.endswith(")") for sample in load_samples())


def test_a_sample_leads_to_its_file() -> None:
    """The size is that of the file."""
    rocket = next(sample for sample in load_samples() if sample.name == "rocket")

    assert (rocket.url, rocket.width, rocket.height) == ("/static/samples/rocket.jpg", 640, 427)
    assert (FOLDER.parent / rocket.url.lstrip("/")).is_file()


def test_the_listed_sizes_are_those_of_the_files() -> None:
    """The gateway reads them from the table, because it opens no image itself."""
    for sample in load_samples():
        with Image.open(FOLDER.parent / sample.url.lstrip("/")) as photo:
            assert (sample.width, sample.height) == photo.size
