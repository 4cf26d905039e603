"""The ways to open a photo, and the messages for unusable files."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from playwright.async_api import expect

from shared.image_codec import decode_photo
from tests.browser.pictures import SAMPLES, enlarge_sample, jpeg, read
from tests.phone_photo import sample

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.browser.studio import Studio

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
LIMIT_BYTES = 64 * 1024**2
TRANSFER = """
([base64, name, type]) => {
  const transfer = new DataTransfer();
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  transfer.items.add(new File([bytes], name, { type }));
  return transfer;
}
"""


def encode_sample(sample: str) -> list[str]:
    """Return a sample as text, with its name and type."""
    return [base64.b64encode((SAMPLES / f"{sample}.jpg").read_bytes()).decode(), f"{sample}.jpg", "image/jpeg"]


async def carry(studio: Studio, sample: str) -> dict[str, object]:
    """Return the data of a drop or paste event with this file."""
    return {"dataTransfer": await studio.page.evaluate_handle(TRANSFER, encode_sample(sample))}


async def test_a_photo_can_be_chosen_from_disk(studio: Studio) -> None:
    """With the button and the file dialog, or the key O."""
    await studio.choose_file(SAMPLES / "coffee.jpg")
    await studio.shows("coffee")
    async with studio.page.expect_file_chooser() as dialog:
        await studio.press("o")
    await (await dialog.value).set_files(SAMPLES / "cat.jpg")
    await studio.shows("cat")


async def test_a_photo_can_be_dropped(studio: Studio) -> None:
    """The page shows the target while the file is over it."""
    dragged = await carry(studio, "astronaut")
    await studio.canvas().dispatch_event("dragenter", dragged)
    await expect(studio.page.get_by_text("Drop the photo here")).to_be_visible()
    await studio.canvas().dispatch_event("drop", dragged)
    await studio.shows("astronaut")

    await expect(studio.page.get_by_text("Drop the photo here")).to_be_hidden()


async def test_an_object_photo_can_be_dropped_beside_the_photo(studio: Studio) -> None:
    """The photo opens in the pane where it is dropped, and its object is cut out."""
    await studio.task("Insert")
    await studio.canvas("reference").dispatch_event("drop", await carry(studio, "coffee"))
    await studio.has_object()

    await studio.shows("rocket")


async def test_a_photo_can_be_pasted(studio: Studio) -> None:
    """The photo comes from the clipboard, like a screenshot."""
    pasted = await carry(studio, "cat")
    await studio.page.evaluate(
        "data => dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))", pasted["dataTransfer"]
    )
    await studio.shows("cat")


async def test_a_transparent_photo_lies_on_white(studio: Studio, tmp_path: Path) -> None:
    """The background is that of the edit; with another one, unmarked areas would seem to change."""
    clear = Image.new("RGBA", (400, 300), (200, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    await studio.choose_file(tmp_path / "clear.png")
    await studio.shows("clear")

    assert await studio.colour((200, 150)) == (255, 255, 255)


async def test_twelve_megapixels_from_a_telephone(studio: Studio, tmp_path: Path) -> None:
    """A portrait photo with an EXIF rotation is shown, marked and edited upright, and returned at full size."""
    photo = enlarge_sample((3000, 4000), "astronaut")
    (tmp_path / "phone.jpg").write_bytes(jpeg(photo, turned=True))
    await studio.choose_file(tmp_path / "phone.jpg")
    await studio.shows("3000 × 4000")  # noqa: RUF001 (as the page writes it)
    await studio.brush((2500, 700), (2650, 700), size=30)
    await studio.shoot("marked")
    await studio.run.click()
    await studio.shows_result()
    await expect(studio.promise).to_have_text("0 pixels changed outside the edited region")
    await studio.format.select_option("png")
    async with studio.page.expect_download() as download:
        await studio.download.click()
    result = read(await (await download.value).path())

    assert result.size == (3000, 4000)
    upright = read(tmp_path / "phone.jpg").transpose(Image.Transpose.ROTATE_270)
    assert result.crop((0, 2000, 3000, 4000)).tobytes() == upright.crop((0, 2000, 3000, 4000)).tobytes()


SMALL_CANVAS = """
const isTooLarge = ({ width, height }) => width * height > 16_777_216;
const { toBlob } = HTMLCanvasElement.prototype;
const { drawImage } = CanvasRenderingContext2D.prototype;
HTMLCanvasElement.prototype.toBlob = function (then, ...rest) {
  return isTooLarge(this) ? then(null) : toBlob.call(this, then, ...rest);
};
CanvasRenderingContext2D.prototype.drawImage = function (...picture) {
  if (!isTooLarge(this.canvas)) drawImage.apply(this, picture);
};
"""


async def test_a_telephone_whose_canvas_ends_below_the_photo(
    visit: Callable[..., Awaitable[Studio]], tmp_path: Path
) -> None:
    """The mask is sent smaller and the result is whole; a picture that the page cannot compose is a sentence."""
    Image.new("RGB", (4200, 4100), (90, 120, 150)).save(tmp_path / "large.jpg")
    studio = await visit()
    await studio.page.add_init_script(SMALL_CANVAS)
    await studio.open()
    await studio.choose_file(tmp_path / "large.jpg")
    await studio.shows("4200")
    await studio.task("Cut out")
    await studio.brush((2000, 2000), (2200, 2000), size=30)
    await studio.is_marked()
    await studio.run.click()
    await expect(studio.button("Colour")).to_be_visible()
    await studio.button("Colour").click()
    await studio.says("This browser cannot make a picture of this size; download the transparent one.")
    await studio.task("Remove")
    await studio.run.click()
    await studio.shows_result()

    await expect(studio.page.locator("#receipt")).to_contain_text("4200")


@pytest.mark.parametrize("kind", ["heic", "tiff"])
async def test_a_photo_that_the_browser_cannot_show(studio: Studio, tmp_path: Path, kind: str) -> None:
    """The server shows it, upright; it can be marked and edited as any photo."""
    photo = tmp_path / f"phone.{kind}"
    if kind == "heic":
        photo.write_bytes(sample("heic"))
    else:
        Image.new("RGB", (400, 300), (200, 40, 40)).save(photo)
    upright = decode_photo(photo.read_bytes()).rgb
    height, width = upright.shape[:2]

    await studio.choose_file(photo)

    await studio.shows(f"{width} × {height}")  # noqa: RUF001 (as the page writes it)
    shown = await studio.colour((width // 4, height // 4))
    assert np.abs(np.subtract(shown, upright[height // 4, width // 4].astype(int))).max() < 12


async def test_a_file_that_is_no_picture(studio: Studio, tmp_path: Path) -> None:
    """With any file name; the photo on the stage does not change."""
    (tmp_path / "letter.jpg").write_text("Dear Sir or Madam")
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam")
    for name in ("letter.jpg", "letter.txt"):
        await studio.choose_file(tmp_path / name)
        await studio.says("choose a JPEG, PNG or WebP.")
        await studio.button("Dismiss").click()

    await studio.shows("rocket")


async def test_a_picture_that_is_too_large_for_the_server(studio: Studio, tmp_path: Path) -> None:
    """The message appears at the first use of the photo."""
    photo = (SAMPLES / "coffee.jpg").read_bytes()
    (tmp_path / "heavy.jpg").write_bytes(photo + bytes(LIMIT_BYTES))
    await studio.choose_file(tmp_path / "heavy.jpg")
    await studio.shows("heavy")
    await studio.click(300, 150)

    await studio.says("This photo is too large for the server; make it smaller and open it again.")


async def test_a_server_that_cannot_be_reached(studio: Studio) -> None:
    """The message is a sentence; after reconnecting, the same click works."""
    await studio.page.context.set_offline(offline=True)
    await studio.click(330, 200)
    await studio.says("The server cannot be reached; check the connection and try again.")
    await studio.shoot("offline")
    await studio.page.context.set_offline(offline=False)
    await studio.click(330, 200)

    await studio.is_marked()
