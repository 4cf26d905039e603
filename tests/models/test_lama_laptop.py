"""LaMa on the CPU, in its child process, on the stand-in that paints every hole grey."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.a100worker.backends.classical.engine import Classical
from services.a100worker.backends.lama.laptop import LaptopLama
from services.a100worker.cancel_flag import CancelFlag
from services.a100worker.imaging import holes
from services.a100worker.settings import Settings
from shared.errors import ConfigError, EngineFailed, JobCancelled
from tests.models.edits import MASK, piece
from tests.models.seal import seal
from tests.models.test_lama import GREY, build
from tests.unit.services.a100worker.recorder import Recorder, box_mask, noise, removal
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shared.image_codec import Rgb

IMAGE, HOLE = noise(300, 400), box_mask(300, 400, (100, 80, 200, 180))


def found(models: Path) -> LaptopLama:
    """Open the file that is there."""
    lama = LaptopLama.find(models, "lama")
    assert lama is not None
    return lama


def fill(lama: LaptopLama, flag: CancelFlag | None = None) -> Rgb:
    """Fill the hole."""
    image = IMAGE.copy()
    lama.fill(image, holes.split(HOLE, None)[0][0], HOLE, 1, flag or CancelFlag())
    return image


@pytest.mark.parametrize("side", [512, "any"])
def test_a_hole_is_painted_and_the_rest_is_left_alone(tmp_path: Path, side: int | str) -> None:
    """Whether the file takes one size or any; a second fill gives the same."""
    build(tmp_path, side)

    with closing(found(tmp_path)) as lama:
        first, second = fill(lama), fill(lama)

    assert np.array_equal(first, second)
    assert np.array_equal(first[HOLE == 0], IMAGE[HOLE == 0])
    assert np.abs(first[HOLE > 0].astype(int) - int(GREY)).max() <= 1


def test_a_cancel_kills_the_process_and_the_next_fill_starts_another(tmp_path: Path) -> None:
    """A run takes seconds and cannot be ended otherwise."""
    build(tmp_path)
    flag = CancelFlag()
    flag.set()

    with closing(found(tmp_path)) as lama:
        with pytest.raises(JobCancelled):
            fill(lama, flag)
        assert np.array_equal(fill(lama)[HOLE == 0], IMAGE[HOLE == 0])


async def test_an_idle_session_is_closed_and_opened_again(tmp_path: Path) -> None:
    """It holds a quarter of a gigabyte. Here the file is gone when it is opened again."""
    file = build(tmp_path) / "lama.onnx"
    with closing(LaptopLama(file, "lama", idle_s=0.001)) as lama:
        fill(lama)
        file.unlink()

        def is_opened_again() -> bool:
            try:
                fill(lama)
            except EngineFailed as error:
                return "damaged" in error.message
            return False

        await wait_until(is_opened_again, "the session is opened again")


def test_numbers_without_a_meaning_are_no_fill(tmp_path: Path) -> None:
    """They would come out as any colour; the next fill is tried again."""
    build(tmp_path, paint=float("nan"))

    with closing(found(tmp_path)) as lama:
        for _ in range(2):
            with pytest.raises(EngineFailed, match="NaN"):
                fill(lama)


def test_a_file_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    """Cut short since the pull; pulled cut short; another network; another size."""
    folder = build(tmp_path)
    whole = (folder / "lama.onnx").read_bytes()
    (folder / "lama.onnx").write_bytes(whole[:-40])
    with pytest.raises(ConfigError, match="is not the one that was pulled"):
        LaptopLama.find(tmp_path, "auto")
    seal(folder)
    with pytest.raises(ConfigError, match=r"lama/lama\.onnx cannot be used: it is damaged"):
        LaptopLama.find(tmp_path, "auto")

    for name, changes in (("names", {"mask": "hole"}), ("size", {"side": 256})):
        (tmp_path / name).mkdir()
        build(tmp_path / name, **changes)
        with pytest.raises(ConfigError, match="other inputs than image and mask of 512 pixels"):
            LaptopLama.find(tmp_path / name, "auto")


def test_there_is_none_without_the_file_or_against_the_setting(tmp_path: Path) -> None:
    """PatchMatch then fills everything."""
    assert LaptopLama.find(tmp_path, "auto") is None
    build(tmp_path)
    assert LaptopLama.find(tmp_path, "patchmatch") is None


@pytest.mark.parametrize(("choice", "is_grey"), [("auto", True), ("lama", True), ("patchmatch", False)])
def test_the_engine_gives_large_holes_to_lama(tmp_path: Path, choice: str, is_grey: bool) -> None:  # noqa: FBT001
    """Its health names the fillers."""
    build(tmp_path)
    settings = Settings.model_validate({"model_dir": tmp_path, "removal_filler": choice})

    with closing(Classical(settings, lambda _: None)) as engine:
        filled = engine.remove(removal(piece(), MASK), Recorder()).image
        facts = engine.facts

    middle = filled[35:55, 42:48].astype(int)
    assert (np.abs(middle - int(GREY)).max() <= 1) == is_grey
    assert facts == {"removal": "lama, patchmatch" if is_grey else "patchmatch"}


def test_only_small_plain_holes_stay_with_patchmatch(tmp_path: Path) -> None:
    """Noise has no lines, and this hole has less than 4 % of the picture."""
    build(tmp_path)
    small = box_mask(300, 400, (100, 80, 140, 120))

    with closing(Classical(Settings(model_dir=tmp_path), lambda _: None)) as engine:
        filled = engine.remove(removal(IMAGE, small), Recorder()).image

    assert filled[95:105, 110:130].std() > 20


@pytest.mark.parametrize(("variant", "is_grey"), [(0, True), (1, False)])
def test_another_try_is_the_other_filler_s(tmp_path: Path, variant: int, is_grey: bool) -> None:  # noqa: FBT001
    """PatchMatch for the hole that suits LaMa."""
    build(tmp_path)

    with closing(Classical(Settings(model_dir=tmp_path), lambda _: None)) as engine:
        filled = engine.remove(removal(piece(), MASK, variant=variant), Recorder()).image

    assert (np.abs(filled[35:55, 42:48].astype(int) - int(GREY)).max() <= 1) == is_grey
