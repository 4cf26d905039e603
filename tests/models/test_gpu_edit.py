"""The benchmark for operators, on the tiny model: its logic; the ratios to the bare library are printed, not judged."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from services.a100worker.backends.qwen.memory.plans import Plan
from services.a100worker.settings import Settings
from shared.image_codec import encode_png
from shared.messages import Task
from tests.benchmarks.gpu_edit import Steps, Watch, measure, write_table
from tests.benchmarks.measuring import gpu_sweep
from tests.benchmarks.measuring.gpu_passes import Figure
from tests.benchmarks.measuring.random_qwen import TINY, RandomQwen
from tests.benchmarks.measuring.recipe_sheet import draw_sheet, usable
from tests.models.conftest import ON_THE_CPU
from tests.models.edits import MASK, piece
from tests.unit.services.a100worker.recorder import Recorder, balance

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from services.a100worker.backends.qwen.engine import Qwen


def test_it_measures_every_phase_task_and_size(qwen_settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has all of them; that of this run is printed even where output is captured."""
    figures = measure(qwen_settings, sizes=[96], steps=3, rounds=2)
    lines: list[str] = []

    write_table(figures, lines.append)

    with capsys.disabled():
        print("", *lines, sep="\n")  # noqa: T201 (for people)
    names = [figure.name for figure in figures]
    parts = ["transformer", "text encoder", "vae", "adapters"]
    assert names[:5] == [*(f"start: loading the {part}" for part in parts), "start: warming up"]
    assert names[5:11] == [
        f"{count} pictures 96 px {how} guidance: a step" for count in (1, 2, 3) for how in ("without", "with")
    ]
    assert names[11:20] == [
        f"{task} 96 px: {what}"
        for task in ("removal", "insertion", "white-balance")
        for what in ("a step", "whole edit of 3 steps", "a preview")
    ]
    region = "removal of 600 x 400 px in 24 megapixels by adapter"
    assert names[20:22] == [f"{region}: a step", f"{region}: whole edit of 3 steps"]
    assert names[22:24] == ["white-balance 96 px, 3 steps: engine over bare pipeline", "adapter switch"]
    assert names[24:] == ["equal bytes, of 2 runs", "a cancel inside a job"]
    assert figures[24].value == 2
    assert all(figure.value > 0 for figure in figures[5:])
    assert len(lines) == len(figures) + 1
    assert json.loads(json.dumps([asdict(figure) for figure in figures]))[0]["unit"] == "s"


def test_the_engine_runs_on_random_numbers_of_any_size(tmp_path: Path) -> None:
    """By its own loading code: plans, adapters and their digests, without a volume."""
    phases: list[str] = []
    settings = Settings(model_dir=tmp_path / "nothing", **ON_THE_CPU)

    with closing(RandomQwen(settings, phases.append, tmp_path, TINY)) as engine:
        picture = engine.balance(balance(piece(), steps=2), Recorder())

    assert phases[0] == "loading the transformer"
    assert picture.provenance is not None
    assert picture.provenance.adapters.keys() == {"white-balance"}
    assert len(picture.provenance.adapters["white-balance"]) == 64


def test_plans_and_kinds_of_attention_are_swept(tmp_path: Path) -> None:
    """Each has an engine of its own; one that this machine does not have is named, and the next is measured."""
    settings = Settings(model_dir=tmp_path / "nothing", **ON_THE_CPU)
    names = ("attention flash", "plan offload")
    variants = {name: gpu_sweep.VARIANTS[name] for name in names}

    found = gpu_sweep.sweep(
        settings, Watch("cpu"), partial(RandomQwen, scratch=tmp_path, sizes=TINY), side=96, steps=3, variants=variants
    )

    by_variant: dict[str, list[Figure]] = {name: [] for name in names}
    for figure in found:
        by_variant[figure.name.partition(":")[0]].append(figure)
    (missing,) = by_variant.pop("attention flash")
    assert missing.name.startswith("attention flash: not here (")
    for figures in by_variant.values():
        assert len(figures) == 5
        assert all(figure.value > 0 for figure in figures)


def test_everything_that_a_card_can_be_set_to_is_swept() -> None:
    """All memory plans, compiled blocks, and five kinds of attention."""
    wanted = [dict(changes) for changes in gpu_sweep.VARIANTS.values()]

    assert {changes["qwen_plan"] for changes in wanted} == {plan.value for plan in Plan}
    assert any(changes.get("qwen_compile") for changes in wanted)
    assert len({changes.get("qwen_attention") for changes in wanted} - {None}) == 5
    assert all(Settings(**changes).qwen_plan == changes["qwen_plan"] for changes in wanted)


def test_a_sheet_shows_each_recipe_that_the_volume_can_serve(qwen: Qwen, stock_qwen: Qwen, tmp_path: Path) -> None:
    """Afterwards the engine has its own recipe again."""
    photo, mask = tmp_path / "photo.png", tmp_path / "mask.png"
    photo.write_bytes(encode_png(piece()))
    mask.write_bytes(encode_png(MASK))

    names = [[recipe.name for recipe in usable(engine)] for engine in (qwen, stock_qwen)]
    sheet = draw_sheet(qwen, [(photo, mask)] * 2, steps=2)

    assert names == [["adapter", "stock", "stock-tint"], ["stock", "stock-tint"]]
    assert qwen.recipes[Task.REMOVAL].name == "adapter"
    assert sheet.shape[0] > 2 * 384
    assert sheet.shape[1] > 6 * 384


def test_a_preview_is_no_part_of_the_step_after_it() -> None:
    """Or the engine would look slower than it is."""
    ticks = iter([0.0, 5.0, 6.0])
    steps = Steps(lambda: next(ticks))

    steps(1, 2, preview=np.zeros((8, 8, 3), np.uint8))
    steps(2, 2)

    assert steps.previews == [5.0]
    assert steps.each_s == 1.0


def test_a_figure_stands_beside_its_baseline() -> None:
    """As the other benchmarks write it."""
    lines: list[str] = []

    write_table([Figure("adapter switch", 3.0, "ms", target=2.0, baseline=1.0)], lines.append)

    assert lines[1].split() == ["adapter", "switch", "3.00", "ms", "<=", "2.00", "ms", "1.00", "ms", "3.00", "missed"]
