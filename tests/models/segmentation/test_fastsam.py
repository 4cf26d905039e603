"""FastSAM with a tiny trained network: its masks must be right, also under parallel requests and failures."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.segmentation.backend import Click, Prompt, load
from services.segmentation.masks import iou
from shared.errors import ConfigError, NothingFound
from shared.messages import Stroke
from tests.models.segmentation.conftest import FASTSAM, settings_for, write_manifest
from tests.models.segmentation.scenes import Scene, scenes
from tests.unit.services.segmentation.photos import LocalFeatures, never_cancel

if TYPE_CHECKING:
    from services.segmentation.backend import Engine
    from services.segmentation.settings import Settings
    from shared.image_codec import Grey

RIGHT = 0.75  # intersection over union; the tiny network sees 40 x 30 pixels of a scene
SCENES = list(scenes(15))


@pytest.fixture(scope="module")
def engine(tiny: Settings) -> Engine:
    """FastSAM."""
    return load("fastsam", tiny)


@pytest.fixture(scope="module")
def memories() -> list[LocalFeatures]:
    """Return the feature cache of each scene."""
    return [LocalFeatures() for _ in SCENES]


def best(engine: Engine, seen: Scene, prompt: Prompt, memory: LocalFeatures | None = None) -> Grey:
    """Return the best mask."""
    return engine.segment(seen.image, prompt, memory or LocalFeatures(), never_cancel)[0].mask


@pytest.mark.parametrize("pointing", ["point", "box", "guidance"])
def test_each_thing_is_found_by_whatever_points_at_it(
    engine: Engine, memories: list[LocalFeatures], pointing: str
) -> None:
    """Sixty shapes, and every mask is the right one, with its edge in the right place."""
    found = [
        iou(best(engine, seen, shape.prompts[pointing], memory), shape.mask)
        for seen, memory in zip(SCENES, memories, strict=True)
        for shape in seen.shapes
    ]

    assert min(found) > RIGHT
    assert np.mean(found) > 0.88


def test_the_network_looks_once_at_a_picture(engine: Engine) -> None:
    """However many prompts follow."""
    memory = LocalFeatures()

    for shape in SCENES[0].shapes:
        for prompt in shape.prompts.values():
            engine.segment(SCENES[0].image, prompt, memory, never_cancel)

    assert memory.computed == 1


def test_masks_have_a_soft_edge_of_a_few_pixels(engine: Engine) -> None:
    """Most of it is 0 or 255."""
    shape = SCENES[0].shapes[0]
    mask = best(engine, SCENES[0], shape.prompts["box"])
    soft = np.count_nonzero((mask > 0) & (mask < 255))

    assert 0 < soft < 0.25 * np.count_nonzero(shape.mask)


def test_several_points_add_up(engine: Engine) -> None:
    """Two shapes were meant: both are found, and nothing else."""
    one, two, *_ = SCENES[0].shapes
    both = Prompt(points=(Click(*one.middle, positive=True), Click(*two.middle, positive=True)))

    assert iou(best(engine, SCENES[0], both), np.maximum(one.mask, two.mask)) > RIGHT


def test_a_negative_point_excludes(engine: Engine) -> None:
    """The instance below it is not in the mask; without another instance nothing is found."""
    one, two, *_ = SCENES[0].shapes
    without = Prompt(points=(Click(*one.middle, positive=True), Click(*two.middle, positive=False)))
    nothing = Prompt(points=(Click(*one.middle, positive=True), Click(*one.middle, positive=False)))

    mask = best(engine, SCENES[0], without)
    assert iou(mask, one.mask) > RIGHT
    assert not (mask[two.mask > 0] > 127).any()
    with pytest.raises(NothingFound):
        best(engine, SCENES[0], nothing)


def test_a_stroke_means_what_it_lies_on(engine: Engine) -> None:
    """A negative stroke excludes the instances below it."""
    one, two, *_ = SCENES[0].shapes
    (x, y), (u, v) = one.middle, two.middle
    strokes = (
        Stroke(points=[(x - 6, y), (x + 6, y)], radius_px=3),
        Stroke(points=[(u - 6, v), (u + 6, v)], radius_px=3, positive=False),
    )

    assert iou(best(engine, SCENES[0], Prompt(strokes=strokes)), one.mask) > RIGHT


def test_without_a_prompt_the_shapes_are_the_subjects(engine: Engine) -> None:
    """Each of the four, none of them twice."""
    found = engine.segment(SCENES[0].image, Prompt(auto=True, candidates=4), LocalFeatures(), never_cancel)

    matches = [[iou(candidate.mask, shape.mask) > RIGHT for shape in SCENES[0].shapes] for candidate in found]
    assert np.array_equal(np.sum(matches, axis=0), [1, 1, 1, 1])


def test_a_click_on_the_ground_finds_nothing(engine: Engine) -> None:
    """There is no thing."""
    with pytest.raises(NothingFound, match=r"^No masks found"):
        engine.segment(SCENES[0].image, Prompt(points=(Click(160, 3, positive=True),)), LocalFeatures(), never_cancel)


def test_prompts_at_once_get_their_own_answers(engine: Engine) -> None:
    """Eight threads with different images and prompts; the library alone mixes them up silently."""
    work = [(seen, shape) for seen in SCENES[:8] for shape in seen.shapes]
    found: dict[int, Grey] = {}

    def take(share: int) -> None:
        for number in range(share, len(work), 8):
            seen, shape = work[number]
            found[number] = best(engine, seen, shape.prompts["point"])

    threads = [threading.Thread(target=take, args=(share,)) for share in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == len(work)
    assert min(iou(found[number], shape.mask) for number, (_, shape) in enumerate(work)) > RIGHT


def test_the_masks_are_those_of_the_library(engine: Engine, tiny: Settings) -> None:
    """Asked for the same pictures by its own interface, ultralytics marks the same pixels."""
    from ultralytics import FastSAM  # noqa: PLC0415 (seconds)

    library = FastSAM(tiny.model_dir / "fastsam" / FASTSAM)
    agreed = []
    for seen in SCENES[:5]:
        for shape in seen.shapes:
            (result,) = library.predict(
                seen.image[..., ::-1], bboxes=[list(shape.box)], imgsz=160, conf=0.4, iou=0.9, retina_masks=True,
                device="cpu", verbose=False,
            )  # fmt: skip
            theirs = result.masks.data[0].cpu().numpy().astype(np.uint8) * 255
            agreed.append(iou(best(engine, seen, shape.prompts["box"]), theirs))

    assert np.mean(agreed) > 0.9


def test_a_small_picture_is_no_trouble(engine: Engine) -> None:
    """Nor is a narrow one; there is just nothing in them."""
    for size in ((1, 1), (5, 3), (2, 900)):
        with pytest.raises(NothingFound):
            engine.segment(np.zeros((*size, 3), np.uint8), Prompt(auto=True), LocalFeatures(), never_cancel)


# --- loading -----------------------------------------------------------------------------------------------


class Exploding:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_tampered_weights_are_refused(own_models: Path) -> None:
    """One other byte, and they are not unpickled."""
    path = own_models / "fastsam" / FASTSAM
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    with pytest.raises(ConfigError, match=r"is not the one that was pulled; `python -m services\.models pull fastsam`"):
        load("fastsam", settings_for(own_models))


def test_missing_weights_are_named(own_models: Path) -> None:
    """With the command that fetches them."""
    (own_models / "fastsam" / FASTSAM).unlink()

    with pytest.raises(ConfigError, match=rf"fastsam/{FASTSAM} is missing .*`python -m services\.models pull "):
        load("fastsam", settings_for(own_models))


@pytest.mark.parametrize("weights", [pickle.dumps(Exploding()), b"no weights at all"], ids=["hostile", "nonsense"])
def test_a_file_that_is_no_network_is_refused(own_models: Path, weights: bytes) -> None:
    """No code from the file is run, even with a locked digest."""
    (own_models / "fastsam" / FASTSAM).write_bytes(weights)
    write_manifest(own_models, "fastsam", FASTSAM)

    with pytest.raises(ConfigError, match=rf"^The file fastsam/{FASTSAM} cannot be loaded as FastSAM weights\.$"):
        load("fastsam", settings_for(own_models))
    assert not Path("exploded").exists()


def test_a_cuda_device_that_is_not_there_is_a_wrong_setting(own_models: Path) -> None:
    """Rather than a slow service."""
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        pytest.skip("There is one here.")
    with pytest.raises(ConfigError, match="SEGMENTATION_DEVICE is cuda"):
        load("fastsam", settings_for(own_models, device="cuda"))


PROGRAM = """
import sys
from pathlib import Path

def listen(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen"}:
        print(event, arguments, file=sys.stderr)
    if event == "open" and "w" in str(arguments[1]) and not str(arguments[0]).startswith("/tmp/"):
        print(event, arguments, file=sys.stderr)

sys.addaudithook(listen)
from services.segmentation.backend import load
from tests.models.segmentation.conftest import settings_for
from tests.models.segmentation.scenes import scene
from tests.unit.services.segmentation.photos import LocalFeatures, never_cancel

engine, seen = load("fastsam", settings_for(Path(sys.argv[1]))), scene(0)
print(len(engine.segment(seen.image, seen.shapes[0].prompts["point"], LocalFeatures(), never_cancel)))
"""


def test_nothing_is_looked_up_and_nothing_is_left_behind(segmentation_models: Path, tmp_path: Path) -> None:
    """No socket, no program but the linker's listing, no file outside of the scratch folder, and that one is gone."""
    ended = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM, segmentation_models],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )

    told = [line for line in ended.stderr.splitlines() if "ldconfig" not in line and str(tmp_path) not in line]
    assert told == []
    assert ended.stdout == "1\n"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
