"""Which container a rendition gets, and which pictures are too large for one."""

from __future__ import annotations

import pytest

from services.imageutils.renditions.containers import Picture, choose_kind, estimate_bytes
from shared.deep_pixels import KEPT, MOST_PIXELS
from shared.errors import TooLarge
from shared.image_formats import FORMATS, MAX_PIXELS
from shared.image_memory import LARGEST_BYTES
from shared.messages import ImageRef

SMALL, LARGE = Picture(600, 400, transparent=False), Picture(8192, 8192, transparent=False)
CLEAR, LARGE_CLEAR = Picture(600, 400, transparent=True), Picture(8192, 8192, transparent=True)


def ref(pixels: int, bytes_a_pixel: float) -> ImageRef:
    """Return a picture of this many pixels, in a row."""
    return ImageRef(
        bucket="results", sha256="0" * 64, content_type="image/png", width=pixels, height=1,
        size_bytes=max(1, round(pixels * bytes_a_pixel)),
    )  # fmt: skip


@pytest.mark.parametrize("picture", [SMALL, LARGE, CLEAR, LARGE_CLEAR])
@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("upload", [*FORMATS, None])
def test_as_it_came_is_never_refused(upload: str | None, picture: Picture, lossless: bool) -> None:  # noqa: FBT001
    """A picture that cannot have its own container gets another one, which holds its opacity, and a note."""
    kind, notes = choose_kind("original", upload, picture, lossless=lossless)

    assert (kind == upload) is (notes == [])
    assert not picture.transparent or kind not in {"JPEG", "BMP"}
    assert len(notes) <= 1


@pytest.mark.parametrize(("wanted", "picture", "refused"), [
    ("avif", SMALL, False), ("avif", Picture(4096, 4096, transparent=False), False), ("avif", LARGE, True),
    ("webp", LARGE, False), ("webp", LARGE_CLEAR, True), ("webp", Picture(16_384, 10, transparent=False), True),
    ("jpeg", LARGE, False), ("png", LARGE_CLEAR, False), ("jpeg", Picture(32_767, 2000, transparent=False), False),
])  # fmt: skip
def test_what_cannot_fit_is_refused(wanted: str, picture: Picture, refused: bool) -> None:  # noqa: FBT001
    """With a sentence that names formats that do."""
    if not refused:
        assert choose_kind(wanted, "JPEG", picture)[1] == []
        return
    with pytest.raises(TooLarge, match="Choose"):
        choose_kind(wanted, "JPEG", picture)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "BMP", "TIFF"])
def test_the_largest_photo_of_a_telephone_fits(kind: str) -> None:
    """64 megapixels, 2.3 bytes a pixel as a PNG, and an upload of 20 MB."""
    upload = ref(1, 20_000_000)

    assert estimate_bytes(kind, ref(9248 * 6936, 2.3), upload) <= LARGEST_BYTES


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "BMP"])
def test_16_bits_that_become_8_are_counted_as_when_they_are_decoded(kind: str) -> None:
    """The largest is made, and takes all of the service's memory."""
    deep = ref(1, 60_000_000).model_copy(update={"notes": [KEPT]})
    small, largest = (estimate_bytes(kind, ref(pixels, 2), deep) for pixels in (8_000_000, MOST_PIXELS))

    assert small >= 24 * 8_000_000
    assert 24 * MOST_PIXELS < largest <= LARGEST_BYTES


def test_a_tiff_with_16_bits_counts_its_pixels_and_files() -> None:
    """Eight bytes a pixel: twice while the PNG is read, then beside the strips and copies of the file."""
    image, upload = ref(MOST_PIXELS, 2.3), ref(1, 64 * 1024**2)
    deep = upload.model_copy(update={"notes": [KEPT]})

    needed = estimate_bytes("TIFF", image, deep)

    reading, writing = 16 * MOST_PIXELS + 2 * image.size_bytes, 8 * MOST_PIXELS + 4 * image.size_bytes
    assert max(reading, writing) + upload.size_bytes <= needed <= LARGEST_BYTES
    assert needed > estimate_bytes("TIFF", image, upload)


def test_an_avif_fits_up_to_its_limit() -> None:
    """16 megapixels take the most memory of all."""
    assert estimate_bytes("AVIF", ref(4096 * 4096, 3), ref(1, 30_000_000)) <= LARGEST_BYTES


def test_more_than_the_service_has_is_refused() -> None:
    """A large picture of noise, which no camera makes."""
    with pytest.raises(TooLarge, match="as it is stored"):
        estimate_bytes("JPEG", ref(MAX_PIXELS, 4), None)
