"""Segment Anything as ONNX, with stand-ins of its two signatures: the input prompts and the output masks are right."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.segmentation.backend import Click, Outliner, Prompt, load
from services.segmentation.backends.sam.engine import Sam
from services.segmentation.backends.sam.network import Network
from services.segmentation.engines import Engines
from services.segmentation.geometry import Box
from services.segmentation.masks import INSIDE, iou, trace
from services.segmentation.settings import Settings
from shared.errors import ConfigError, EngineFailed, JobCancelled, NothingFound
from shared.messages import Stroke
from tests.models.segmentation.conftest import with_sam
from tests.models.segmentation.tiny_sam import FEATURES
from tests.unit.services.segmentation.photos import LocalFeatures, ball, ellipse, never_cancel

if TYPE_CHECKING:
    from pathlib import Path

    from services.segmentation.backend import Engine
    from shared.image_codec import Grey, Rgb
    from tests.models.segmentation.tiny_sam import Variant

RIGHT = 0.9
PICTURE, TRUTH = ball()
BALL, GROUND = Click(120, 90, positive=True), Click(10, 10, positive=False)


@pytest.fixture(params=["sam", "mobile"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Return the engine with each of the two layouts."""
    return engine_with(tmp_path, request.param)


def engine_with(model_dir: Path, variant: Variant) -> Engine:
    """Load the engine with a stand-in."""
    with_sam(model_dir, variant, "mobile-sam" if variant == "mobile" else "sam")
    return load("sam", Settings(model_dir=model_dir))


def best(engine: Engine, prompt: Prompt, image: Rgb = PICTURE, memory: LocalFeatures | None = None) -> Grey:
    """Return the best mask."""
    return engine.segment(image, prompt, memory or LocalFeatures(), never_cancel)[0].mask


def apple() -> tuple[Rgb, list[Grey]]:
    """Return a tall picture of a red apple with a paler spot on an orange plate, and these three areas, nested."""
    image = np.full((300, 200, 3), (40, 20, 200), np.uint8)
    areas = [ellipse(image, 100, 180, *radii) for radii in ((16, 16), (40, 40), (80, 70))]
    for area, colour in zip(reversed(areas), ((230, 130, 60), (190, 90, 55), (150, 60, 45)), strict=True):
        image[area > 0] = colour
    return image, areas


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(points=(BALL,)),
        Prompt(points=(BALL, GROUND)),
        Prompt(box=Box(70, 40, 170, 140)),
        Prompt(strokes=(Stroke(points=[(100, 80), (140, 100)], radius_px=4),)),
        Prompt(guidance=np.where(np.roll(TRUTH, 5, axis=1) > 0, np.uint8(255), np.uint8(0))),
    ],
    ids=["point", "points", "box", "stroke", "painted area"],
)
def test_a_thing_is_found_however_it_is_pointed_at(engine: Engine, prompt: Prompt) -> None:
    """In a wide picture: the coordinates reach the network in its own square, and come back."""
    assert iou(best(engine, prompt), TRUTH) > RIGHT


def test_a_thing_is_found_in_a_tall_picture(engine: Engine) -> None:
    """Where the other side is the long one."""
    tall = np.ascontiguousarray(PICTURE.transpose(1, 0, 2))

    assert iou(best(engine, Prompt(points=(BALL._replace(x=90, y=120),)), tall), TRUTH.T) > RIGHT


def test_one_click_gives_part_thing_and_the_thing_with_what_carries_it(engine: Engine) -> None:
    """Three different masks, by the network's own scores, best first."""
    image, areas = apple()
    found = engine.segment(
        image, Prompt(points=(Click(100, 180, positive=True),), candidates=3), LocalFeatures(), never_cancel
    )

    assert len(found) == 3
    for candidate, area in zip(sorted(found, key=lambda each: np.count_nonzero(each.mask)), areas, strict=True):
        assert iou(candidate.mask, area) > 0.85


def test_a_negative_click_takes_the_plate_away(engine: Engine) -> None:
    """And no click is undone."""
    image, areas = apple()
    clicks = (Click(100, 180, positive=True), Click(40, 180, positive=False))
    mask = best(engine, Prompt(points=clicks), image)

    assert all((mask[int(click.y), int(click.x)] > INSIDE) == click.positive for click in clicks)
    assert not mask[areas[2] == 0].any()


def test_the_mask_before_gives_the_same_as_the_clicks_in_order(engine: Engine) -> None:
    """A replica that cannot read it replays the clicks, and each click then corrects the mask before it."""
    image, _ = apple()
    clicks = (Click(100, 180, positive=True), Click(30, 180, positive=True), Click(100, 20, positive=False))
    memory = LocalFeatures()
    mask = best(engine, Prompt(points=clicks[:1]), image, memory)
    for count in (2, 3):
        mask = best(engine, Prompt(points=clicks[:count], previous=mask), image, memory)

    assert np.array_equal(mask, best(engine, Prompt(points=clicks), image, memory))
    assert memory.computed == 1


def test_a_click_near_the_edge_changes_only_its_surroundings(engine: Engine) -> None:
    """The network's new answer counts in a disc around the click."""
    before = TRUTH.copy()
    before[:, 156:] = 0  # a slice is missing
    far = np.hypot(*(np.indices(TRUTH.shape) - np.array([90, 160])[:, None, None])) > 60
    after = best(engine, Prompt(points=(BALL, Click(160, 90, positive=True)), previous=before))

    assert after[90, 160] > INSIDE
    assert np.array_equal(after[far], before[far])
    assert iou(after, TRUTH) > iou(before, TRUTH)


def test_the_mask_before_is_an_input_of_the_network(tmp_path: Path) -> None:
    """As logits in the network's square: positive inside, negative outside and where the square shows no image."""
    with_sam(tmp_path, "mobile", "mobile-sam")
    logits = Network(tmp_path, "mobile-sam").layout.mask_input(TRUTH, 10.0)

    assert logits.shape == (1, 1, 256, 256)
    assert (logits[0, 0, 96, 128], logits[0, 0, 2, 2], logits[0, 0, 250, 128]) == (10.0, -10.0, -10.0)


def test_an_image_is_encoded_once_in_half_precision(tmp_path: Path) -> None:
    """8.4 MB; further prompts, also of other kinds, are answered from memory."""
    engine, memory = engine_with(tmp_path, "sam"), LocalFeatures()
    for prompt in (Prompt(points=(BALL,)), Prompt(points=(BALL, GROUND)), Prompt(box=Box(70, 40, 170, 140))):
        best(engine, prompt, memory=memory)

    assert memory.computed == 1
    (embedding,) = memory.arrays.values()
    assert embedding.dtype == np.float16
    assert embedding.size == sum(int(np.prod(shape)) for shape in FEATURES.values())
    assert embedding.nbytes < 8_400_000


def test_files_in_half_precision_give_the_same_mask(tmp_path: Path) -> None:
    """They take and return half precision."""
    assert iou(best(engine_with(tmp_path, "half"), Prompt(points=(BALL,))), TRUTH) > RIGHT


def test_a_click_on_what_fills_the_image_finds_nothing(engine: Engine) -> None:
    """Such a mask separates nothing."""
    with pytest.raises(NothingFound, match=r"^No masks found"):
        best(engine, Prompt(points=(Click(5, 5, positive=True),)), np.full((120, 160, 3), 128, np.uint8))


# --- the outline under the pointer --------------------------------------------------------------------------------


def test_the_outline_comes_from_memory_alone(engine: Engine) -> None:
    """And lies on the object's edge, in pixels of the image."""
    memory = LocalFeatures()
    best(engine, Prompt(box=Box(70, 40, 170, 140)), memory=memory)
    assert isinstance(engine, Outliner)

    found = engine.outline(240, 180, BALL, memory.arrays.get)
    assert found is not None
    (polygon,) = trace(found.mask, 240, 180)

    radii = [np.hypot(x - 120, y - 90) for x, y in polygon]
    assert min(radii) > 41
    assert max(radii) < 49
    assert memory.computed == 1


def test_an_image_that_was_not_seen_has_no_outline(engine: Engine) -> None:
    """The encoder is not run for the pointer."""
    assert isinstance(engine, Outliner)
    assert engine.outline(240, 180, BALL, lambda _: None) is None


# --- files as they come -------------------------------------------------------------------------------------------


def test_it_is_the_default_where_its_files_are(tmp_path: Path) -> None:
    """SAM 2.1 before MobileSAM; GrabCut stays for whom asks for it."""
    assert [name for name in ("default", "grabcut") if chosen(tmp_path, name) == "grabcut"] == ["default", "grabcut"]
    for variant, folder in (("mobile", "mobile-sam"), ("sam", "sam")):
        with_sam(tmp_path, variant, folder)  # type: ignore[arg-type]
        engine = Engines(Settings(model_dir=tmp_path)).choose("default")[0]
        assert isinstance(engine, Sam)
        assert engine.model == folder
        assert chosen(tmp_path, "grabcut") == "grabcut"


def chosen(model_dir: Path, wanted: str) -> str:
    """Return the name of the engine for a request, with the default settings."""
    return Engines(Settings(model_dir=model_dir)).choose(wanted)[0].name


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        ("other names", "the output image_embed is missing"),
        ("other shape", r"the output image_embed has the shape \[1, 256, 32, 32\]"),
        ("no mask input", "the input has_mask_input is missing"),
        ("wrong output", r"the output masks has the shape \[1, 3, 128, 128\]"),
    ],
)
def test_other_files_end_the_start_with_a_sentence(tmp_path: Path, variant: Variant, reason: str) -> None:
    """As the EdgeSAM layout, or an export of another script."""
    with pytest.raises(ConfigError, match=f"^The files in sam are not a Segment Anything export: {reason}\\.$"):
        engine_with(tmp_path, variant)


def test_what_only_a_run_shows_ends_the_start(tmp_path: Path) -> None:
    """The networks are tried before they serve."""
    with pytest.raises(ConfigError, match=r"^The files in sam cannot be used .*: The network returned NaN .*\.$"):
        engine_with(tmp_path, "no numbers")


def test_a_file_cut_short_ends_the_start(tmp_path: Path) -> None:
    """It differs from the one that was pulled."""
    with_sam(tmp_path, "sam")
    path = tmp_path / "sam/encoder.onnx"
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(ConfigError, match=r"sam/encoder\.onnx is not the one that was pulled"):
        load("sam", Settings(model_dir=tmp_path))


def test_numbers_that_get_lost_are_no_mask(tmp_path: Path) -> None:
    """A clear failure that may be tried again; nothing is cached, and the next image is fine."""
    engine, memory = engine_with(tmp_path, "lost numbers"), LocalFeatures()

    with pytest.raises(EngineFailed, match=r"^The network returned NaN for this image\.$"):
        best(engine, Prompt(points=(Click(5, 5, positive=True),)), np.zeros((64, 64, 3), np.uint8), memory)
    assert not memory.arrays
    assert iou(best(engine, Prompt(points=(BALL,))), TRUTH) > RIGHT


def test_a_run_is_ended_when_nobody_wants_it(tmp_path: Path) -> None:
    """In the middle of the encoder: this one would take hours. Another image waits for it, and is then seen."""
    engine = engine_with(tmp_path, "endless")
    begun, cancelled = threading.Event(), threading.Event()

    def checkpoint() -> None:
        if cancelled.is_set():
            raise JobCancelled
        begun.set()

    def look() -> None:
        with pytest.raises(JobCancelled):
            engine.segment(np.zeros((64, 64, 3), np.uint8), Prompt(points=(Click(5, 5, positive=True),)),
                           LocalFeatures(), checkpoint)  # fmt: skip

    thread = threading.Thread(target=look)
    thread.start()
    assert begun.wait(30)
    cancelled.set()
    thread.join(30)

    assert not thread.is_alive()
    assert iou(best(engine, Prompt(points=(BALL,))), TRUTH) > RIGHT
