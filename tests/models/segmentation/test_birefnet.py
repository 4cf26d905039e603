"""BiRefNet as ONNX, with a stand-in of the same signature: the input pictures and the output masks are right."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from services.segmentation.backend import Click, Prompt, load
from services.segmentation.backends.birefnet import Fallback, Network, Region
from services.segmentation.backends.onnx_sessions import make_options
from services.segmentation.geometry import Box, whole_image
from services.segmentation.masks import iou
from shared.errors import ConfigError, EngineFailed, JobCancelled, NothingFound
from tests.models.segmentation.conftest import BIREFNET, FALLBACK, settings_for, with_birefnet
from tests.models.segmentation.scenes import scenes
from tests.unit.services.segmentation.photos import LocalFeatures, ball, never_cancel

if TYPE_CHECKING:
    from pathlib import Path

    from services.segmentation.backend import Engine
    from services.segmentation.settings import Settings
    from shared.image_codec import Grey, Rgb
    from tests.models.segmentation.tiny_birefnet import Variant

RIGHT = 0.9
SCENES = list(scenes(4))
PICTURE, TRUTH = ball()


@pytest.fixture(scope="module")
def engine(tiny: Settings) -> Engine:
    """BiRefNet."""
    return load("birefnet", tiny)


def best(engine: Engine, image: Rgb, prompt: Prompt, memory: LocalFeatures | None = None) -> Grey:
    """Return the best mask."""
    return engine.segment(image, prompt, memory or LocalFeatures(), never_cancel)[0].mask


@pytest.mark.parametrize("pointing", ["point", "box", "guidance"])
def test_one_thing_is_found_among_several(engine: Engine, pointing: str) -> None:
    """The region selects the object, and the network its outline; other objects of the region stay out."""
    found = [
        iou(best(engine, seen.image, shape.prompts[pointing]), shape.mask) for seen in SCENES for shape in seen.shapes
    ]

    assert min(found) > RIGHT


def test_without_a_prompt_it_is_all_that_stands_out(engine: Engine) -> None:
    """The answer has all salient objects of the whole picture."""
    everything = np.max([shape.mask for shape in SCENES[0].shapes], axis=0)

    assert iou(best(engine, SCENES[0].image, Prompt(auto=True)), everything) > RIGHT


def test_the_object_is_white_and_its_edge_is_soft(engine: Engine) -> None:
    """As a sigmoid makes it: not turned round, not stretched, not cut off at a threshold."""
    mask = best(engine, PICTURE, Prompt(auto=True))

    assert (mask[90, 120], mask[5, 5]) == (255, 0)
    assert len(np.unique(mask)) > 20


def test_a_box_is_a_limit(engine: Engine) -> None:
    """Half a ball, where the box holds half of it."""
    mask = best(engine, PICTURE, Prompt(box=Box(120, 20, 220, 160)))

    assert not mask[:, :120].any()
    assert iou(mask[:, 120:], TRUTH[:, 120:]) > RIGHT


def test_of_the_answer_only_what_is_meant_is_kept() -> None:
    """Keep the part that touches the object, without the excluded area, even where both are joined."""
    matte, thing, other = (np.zeros((40, 60), np.uint8) for _ in range(3))
    matte[5:30, 5:40] = matte[5:30, 50:58] = 200
    thing[10:20, 8:20] = other[5:30, 25:40] = 255

    kept = Region(whole_image(matte), touching=thing, without=other).restrict(matte)

    assert (kept[5:30, 5:25] == 200).all()
    assert not kept[:, 25:].any()


def test_a_second_prompt_on_the_region_is_answered_from_memory(engine: Engine) -> None:
    """Neither network looks again."""
    memory = LocalFeatures()
    best(engine, PICTURE, Prompt(points=(Click(120, 90, positive=True),)), memory)
    best(engine, PICTURE, Prompt(points=(Click(118, 95, positive=True),)), memory)

    assert memory.computed == 2


def test_a_click_on_nothing_finds_nothing(engine: Engine) -> None:
    """Without a region there is nothing to look at."""
    with pytest.raises(NothingFound):
        best(engine, PICTURE, Prompt(points=(Click(5, 5, positive=True),)))


# --- networks as they come ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["half", "open size"])
def test_other_exports_give_the_same_mask(own_models: Path, engine: Engine, variant: Variant) -> None:
    """In half precision, or with the size left open."""
    with_birefnet(own_models, variant)
    other = load("birefnet", settings_for(own_models))

    assert iou(best(other, PICTURE, Prompt(auto=True)), best(engine, PICTURE, Prompt(auto=True))) > 0.98


def test_an_answer_of_another_shape_ends_the_start(own_models: Path) -> None:
    """Each network is tried before it serves."""
    with_birefnet(own_models, "wrong shape")

    with pytest.raises(ConfigError, match=r"^The file birefnet/tiny\.onnx cannot be used as BiRefNet weights\.$"):
        load("birefnet", settings_for(own_models))


def test_numbers_that_get_lost_are_no_mask(own_models: Path) -> None:
    """As in half precision, in some pictures: a clear failure that may be tried again, and the next picture is fine."""
    with_birefnet(own_models, "lost numbers")
    engine = load("birefnet", settings_for(own_models))
    black = np.zeros((64, 64, 3), np.uint8)

    with pytest.raises(EngineFailed, match=r"^BiRefNet returned NaN for this image\.$"):
        best(engine, black, Prompt(auto=True))
    assert iou(best(engine, PICTURE, Prompt(auto=True)), TRUTH) > RIGHT


BLACK = np.zeros((64, 64, 3), np.uint8)
BLACK_WITH_A_SPOT = np.pad(np.full((32, 32, 3), 200, np.uint8), ((16, 16), (16, 16), (0, 0)))


@pytest.mark.parametrize(("variant", "image"), [("lost numbers", BLACK_WITH_A_SPOT), ("overflow", PICTURE)])
def test_full_precision_answers_where_half_precision_cannot(own_models: Path, variant: Variant, image: Rgb) -> None:
    """For NaN and for infinity the other file gives the mask, and its network is loaded once."""
    with_birefnet(own_models, variant, fallback="right")
    engine = load("birefnet", settings_for(own_models))
    masks = [best(engine, image, Prompt(auto=True)) for _ in range(2)]
    (own_models / "birefnet" / FALLBACK).unlink()
    masks.append(best(engine, image, Prompt(auto=True)))

    with_birefnet(own_models, "right")
    right = best(load("birefnet", settings_for(own_models)), image, Prompt(auto=True))
    assert [iou(mask, right) for mask in masks] == [1, 1, 1]


def test_full_precision_is_not_loaded_before_it_is_needed(own_models: Path) -> None:
    """It needs a gigabyte, so a picture that half precision can do is done without the file."""
    with_birefnet(own_models, "lost numbers", fallback="wrong shape")
    engine = load("birefnet", settings_for(own_models))

    assert iou(best(engine, PICTURE, Prompt(auto=True)), TRUTH) > RIGHT


@pytest.mark.parametrize(
    ("fallback", "sentence"),
    [
        ("lost numbers", r"^BiRefNet returned NaN for this image\.$"),
        ("wrong shape", r"^The file birefnet/tiny-fallback\.onnx cannot be used as BiRefNet weights\.$"),
    ],
)
def test_a_fallback_that_fails_fails_the_request_only(own_models: Path, fallback: Variant, sentence: str) -> None:
    """The error says why, and other pictures are answered."""
    with_birefnet(own_models, "lost numbers", fallback)
    engine = load("birefnet", settings_for(own_models))

    for _ in range(2):
        with pytest.raises(EngineFailed, match=sentence):
            best(engine, BLACK_WITH_A_SPOT, Prompt(auto=True))
    assert iou(best(engine, PICTURE, Prompt(auto=True)), TRUTH) > RIGHT


def test_a_damaged_fallback_ends_the_start(own_models: Path) -> None:
    """Like all weights; without the setting it is not looked at."""
    with_birefnet(own_models, "right", fallback="right")
    path = own_models / "birefnet" / FALLBACK
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    with pytest.raises(ConfigError, match=r"birefnet/onnx/tiny-fallback\.onnx is not the one that was pulled"):
        load("birefnet", settings_for(own_models))
    assert load("birefnet", settings_for(own_models, birefnet_fallback_file="")).name == "birefnet"


def test_a_cancel_ends_the_wait_for_full_precision(own_models: Path) -> None:
    """Only one image at a time is looked at in full precision, and the others can be cancelled meanwhile."""
    with_birefnet(own_models, "right", fallback="endless")
    fallback = Fallback(own_models / "birefnet" / FALLBACK, "cpu")
    white, begun, release = np.full((64, 64, 3), 255, np.uint8), threading.Event(), threading.Event()

    def hold() -> None:
        if release.is_set():
            raise JobCancelled
        begun.set()

    def cancel() -> None:
        raise JobCancelled

    def run() -> None:
        with pytest.raises(JobCancelled):
            fallback.predict(white, hold)

    first = threading.Thread(target=run)
    first.start()
    assert begun.wait(60)
    with pytest.raises(JobCancelled):
        fallback.predict(white, cancel)
    assert first.is_alive()
    release.set()
    first.join(60)
    assert not first.is_alive()


def test_a_run_is_ended_when_nobody_wants_it(own_models: Path) -> None:
    """A cancel ends the run in the middle; it would take hours."""
    with_birefnet(own_models, "endless")
    network, white = Network(own_models / "birefnet" / BIREFNET, "cpu"), np.full((64, 64, 3), 255, np.uint8)
    begun, cancelled = threading.Event(), threading.Event()

    def checkpoint() -> None:
        if begun.is_set():  # the second time: the run is on
            cancelled.set()
            raise JobCancelled
        begun.set()

    with pytest.raises(JobCancelled):
        network.predict(white, checkpoint)
    assert cancelled.is_set()


def test_threads_that_wait_use_no_core() -> None:
    """Between two pictures, and while another operator computes: by default they spin."""
    assert make_options().get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_gpu_that_cannot_be_used_is_a_wrong_setting(own_models: Path) -> None:
    """A wrong device is a ConfigError; on the CPU, each answer has a note."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("There is one here.")
    with pytest.raises(ConfigError, match="SEGMENTATION_DEVICE is cuda"):
        Network(own_models / "birefnet" / BIREFNET, "cuda")
    assert "on the CPU" in (load("birefnet", settings_for(own_models)).note or "")


def test_tampered_weights_are_refused(own_models: Path) -> None:
    """Like all weights."""
    path = own_models / "birefnet" / BIREFNET
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    with pytest.raises(ConfigError, match=r"birefnet/\S+ is not the one that was pulled"):
        load("birefnet", settings_for(own_models))


def test_it_needs_fastsam_for_its_regions(own_models: Path) -> None:
    """The error text names the missing file."""
    (own_models / "fastsam" / "manifest.json").unlink()

    with pytest.raises(ConfigError, match=r"fastsam/manifest\.json is missing"):
        load("birefnet", settings_for(own_models))
