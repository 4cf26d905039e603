"""Painting by windows, with a painter that returns one of its input pictures."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from services.a100worker.backends.qwen.frames import Frame
from services.a100worker.backends.qwen.recipes.recipe import View
from services.a100worker.backends.qwen.scenes.removal import RemovalScene
from services.a100worker.backends.qwen.scenes.scene import draw
from services.a100worker.backends.qwen.windowed import Painted, derive_seed, paint_windows
from services.a100worker.imaging import windows
from services.a100worker.imaging.placement import Box
from shared.errors import JobCancelled
from tests.unit.services.a100worker.recorder import Recorder, box_mask, frozen, photo, removal

if TYPE_CHECKING:
    from services.a100worker.backend import StepReporter
    from services.a100worker.imaging.windows import Window
    from shared.image_codec import Grey, Rgb

AREA = 1024 * 1024
STEPS = 3


@functools.cache
def large_photo(width: int, height: int) -> Rgb:
    """Return a sharp photo with grain, of that size."""
    tile = np.asarray(cv2.resize(photo("coffee"), (1200, 800), interpolation=cv2.INTER_CUBIC), np.int16)
    mirrored = np.block([[[tile], [tile[:, ::-1]]], [[tile[::-1]], [tile[::-1, ::-1]]]])
    rows, columns = -(-height // mirrored.shape[0]), -(-width // mirrored.shape[1])
    whole = np.tile(mirrored, (rows, columns, 1))[:height, :width]
    grain = np.random.default_rng(1).normal(0, 6, whole.shape[:2])[..., None]
    return frozen(np.clip(whole + grain, 0, 255).astype(np.uint8))


class Echo:
    """Gives back one of the pictures that it could show, in three steps; `shift` moves its colours as a VAE may."""

    def __init__(self, view: View = View.PHOTO, shift: int = 0) -> None:
        self.seeds: list[int] = []
        self.canvases: list[tuple[int, ...]] = []
        self._view = view
        self._shift = shift

    def __call__(self, scene: RemovalScene, seed: int, step: StepReporter) -> Rgb:
        """See paint_windows."""
        self.seeds.append(seed)
        self.canvases.append(scene.photo.shape[:2])
        picture = draw(scene, self._view)
        small = np.full((8, 8, 3), 200, np.uint8)
        step(0, STEPS, "Reading the prompt")
        for done in range(1, STEPS + 1):
            step(done, STEPS, None, lambda: small)
        return np.asarray(np.clip(picture.astype(int) + self._shift, 0, 255), np.uint8)


def paint(image: Rgb, mask: Grey, echo: Echo, step: StepReporter | None = None, seed: int = 7) -> Painted[RemovalScene]:
    """Paint a removal with that painter."""
    job = removal(image, mask, seed=seed)
    planned = windows.plan(windows.boxes_of_marked(mask), image.shape)

    def no_fill(image: Rgb, hole: Grey, saliency: Grey | None) -> Rgb:
        del hole, saliency
        return image

    def make_scene(current: Rgb, window: Window) -> RemovalScene:
        return RemovalScene(job, current, window, AREA, no_fill, None)

    return paint_windows(image, planned, make_scene, echo, seed, step or Recorder())


def sharpness(picture: Rgb, where: Grey) -> float:
    """Return the variance of the Laplacian."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F)[where > 0].var())


def ring_of(region: Grey, width: int) -> Grey:
    """Return the pixels round a region."""
    inside = np.where(region > 0, np.uint8(255), np.uint8(0))
    return np.asarray(cv2.dilate(inside, np.ones((2 * width + 1,) * 2, np.uint8)) & ~inside)


# --- pasting back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0, 6, -9])
def test_a_window_at_its_own_resolution_is_as_sharp_as_its_surroundings(shift: int) -> None:
    """And no rim shows, though the painter moves the colours; outside not a byte changes."""
    image = large_photo(2400, 1600)
    mask = box_mask(1600, 2400, (1000, 500, 1600, 900))

    painted = paint(image, mask, Echo(shift=shift))

    region = painted.region
    inside, ring = np.where(region == 255, np.uint8(255), np.uint8(0)), ring_of(region, 24)
    assert sharpness(painted.image, inside) / sharpness(painted.image, ring) >= 0.8 * (
        sharpness(image, inside) / sharpness(image, ring)
    )
    assert abs(rim_step(painted.image, region) - rim_step(image, region)) <= 1
    assert np.array_equal(painted.image[region == 0], image[region == 0])
    assert np.abs(painted.image.astype(int) - image)[inside > 0].mean() <= 0.6


def rim_step(picture: Rgb, region: Grey) -> float:
    """Return the mean difference of colours across the region's rim, in levels."""
    outer = ring_of(region, 3) > 0
    eroded = np.asarray(cv2.erode(np.where(region > 0, np.uint8(255), np.uint8(0)), np.ones((7, 7), np.uint8)))
    inner = (region > 0) & (eroded == 0)
    return float(np.abs(picture[inner].mean(axis=0) - picture[outer].mean(axis=0)).mean())


def test_a_large_object_gets_its_grain_back() -> None:
    """Its window exceeds the working area and is painted smaller: enlarged alone it would be soft."""
    image = large_photo(3000, 2000)
    mask = box_mask(2000, 3000, (600, 400, 2100, 1400))

    painted = paint(image, mask, Echo(shift=4))

    (_, scene), *_ = painted.windows
    inside, ring = np.where(painted.region == 255, np.uint8(255), np.uint8(0)), ring_of(painted.region, 40)
    assert scene.frame.scale < 0.6
    assert sharpness(painted.image, inside) / sharpness(painted.image, ring) >= 0.5
    assert abs(rim_step(painted.image, painted.region) - rim_step(image, painted.region)) <= 1
    assert np.array_equal(painted.image[painted.region == 0], image[painted.region == 0])


def test_a_small_photo_is_painted_larger_and_comes_back_at_its_size() -> None:
    """The model is good at 512 px and more."""
    echo = Echo()

    painted = paint(photo("cat"), box_mask(300, 451, (200, 100, 260, 160)), echo)

    assert echo.canvases == [(512, 768)]
    assert painted.image.shape == photo("cat").shape
    assert np.abs(painted.image.astype(int) - photo("cat")).mean() < 1


# --- effort -------------------------------------------------------------------------------------------------------

LAYERS, WIDTH = 60, 3072  # of the published transformer
TEXT, TEXT_OF_A_PICTURE = 150, 196  # tokens of a prompt, and of each picture in it


def teraflops(tokens: int) -> float:
    """Return the work of a pass: 12 * width² numbers a layer for each token, and attention of each with each."""
    linear = 2 * 12 * WIDTH**2 * LAYERS * tokens
    return (linear + 4 * WIDTH * LAYERS * tokens**2) / 1e12


def tokens_of(canvas: tuple[int, ...], pictures: int) -> int:
    """Return the tokens of the painted picture, the shown ones and the text."""
    return (1 + pictures) * canvas[0] * canvas[1] // 16**2 + TEXT + pictures * TEXT_OF_A_PICTURE


def test_a_pass_costs_a_fraction_of_one_on_the_whole_photo() -> None:
    """600 x 400 px in 24 megapixels; before there were windows, three pictures of 1,248 x 832 px were shown."""
    (window,) = windows.plan([Box(2600, 1500, 600, 400)], (4000, 6000))
    canvas = Frame.of(window.box.width, window.box.height, AREA, windows.LEAST_PX).outer

    whole = 79 * 53 + 3 * 78 * 52 + TEXT + 3 * TEXT_OF_A_PICTURE
    assert 400 < teraflops(whole) < 460  # as published figures have it
    assert canvas == (928, 608)
    assert teraflops(whole) >= 3 * teraflops(tokens_of(canvas, 1))
    assert teraflops(whole) >= 2 * teraflops(tokens_of(canvas, 3))


# --- several windows ----------------------------------------------------------------------------------------------

TWO = box_mask(800, 2400, (100, 100, 160, 160), (2200, 600, 2260, 660))


def test_steps_of_all_windows_count_together() -> None:
    """Each step once, up to the last; the user reads which region is painted."""
    recorder = Recorder()

    paint(large_photo(2400, 800), TWO, Echo(), recorder)

    assert recorder.steps == [(done, 2 * STEPS) for done in range(2 * STEPS + 1)]
    assert recorder.messages[STEPS] == "Painting region 2 of 2"


def test_a_notice_stays_until_the_first_step_is_done() -> None:
    """The user has time to read it."""
    image, recorder = large_photo(2400, 800), Recorder()
    (window,) = windows.plan([Box(300, 300, 40, 40)], image.shape)
    job = removal(image, box_mask(800, 2400, (300, 300, 340, 340)))

    paint_windows(
        image,
        [window],
        lambda current, planned: RemovalScene(job, current, planned, AREA, lambda picture, *_: picture, None),
        Echo(),
        7,
        recorder,
        "Take care.",
    )

    assert recorder.messages == ["Take care.", None, None, None]


def test_each_window_has_its_own_seed() -> None:
    """The first has the job's; the same job has the same ones again."""
    first, again, other = Echo(), Echo(), Echo()
    for echo, seed in ((first, 7), (again, 7), (other, 8)):
        paint(large_photo(2400, 800), TWO, echo, seed=seed)

    assert first.seeds == again.seeds == [7, derive_seed(7, 1)]
    assert len({*first.seeds, *other.seeds}) == 4
    assert all(0 <= derive_seed(2**63 - 1, number) < 2**63 for number in range(4))


def test_a_preview_shows_the_whole_photo_with_the_region_in_it() -> None:
    """At most 256 px a side; it lies over the photo in the studio."""
    recorder, image = Recorder(), large_photo(2400, 800)

    paint(image, TWO, Echo(), recorder)

    small = np.asarray(cv2.resize(image, (256, 85), interpolation=cv2.INTER_AREA), np.uint8)
    assert {preview.shape for preview in recorder.previews} == {(85, 256, 3)}
    first, last = recorder.previews[0], recorder.previews[-1]
    assert (first[12:16, 12:16] == 200).all()
    assert (last[65:69, 236:240] == 200).all()
    assert np.array_equal(first[:, 60:], small[:, 60:])


def test_a_later_window_shows_the_earlier_ones_painted() -> None:
    """Where they overlap, the first edit is part of the photo."""
    image, seen = large_photo(2400, 800), []

    class Black(Echo):
        def __call__(self, scene: RemovalScene, seed: int, step: StepReporter) -> Rgb:
            seen.append(scene.photo.copy())
            return np.zeros_like(super().__call__(scene, seed, step))

    mask = box_mask(800, 2400, (300, 300, 340, 340), (680, 300, 720, 340), (2200, 600, 2260, 660))
    painted = paint(image, mask, Black())

    assert len(seen) == len(painted.windows)
    assert not painted.image[305:335, 305:335].any()


def test_a_cancel_between_two_windows_ends_the_job() -> None:
    """The second window reports no step before its first is done."""
    recorder = Recorder()

    class Slow(Echo):
        def __call__(self, scene: RemovalScene, seed: int, step: StepReporter) -> Rgb:
            picture = super().__call__(scene, seed, step)
            recorder.cancel_flag.set()
            return picture

    echo = Slow()
    with pytest.raises(JobCancelled):
        paint(large_photo(2400, 800), TWO, echo, recorder)

    assert recorder.steps[-1] == (STEPS, 2 * STEPS)
