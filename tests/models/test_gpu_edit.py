"""The benchmark for operators, on the tiny model: its logic; the ratios to the bare library are printed, not judged."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from tests.benchmarks.gpu_edit import Figure, Steps, measure, tell

if TYPE_CHECKING:
    import pytest

    from services.a100worker.settings import Settings


def test_it_measures_every_phase_task_and_size(qwen_settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """And what it prints says all of it; the table of this run is shown even where output is captured."""
    figures = measure(qwen_settings, sizes=[96], steps=3, rounds=5)
    lines: list[str] = []

    tell(figures, lines.append)

    with capsys.disabled():
        print("", *lines, sep="\n")  # noqa: T201 (for people)
    names = [figure.name for figure in figures]
    parts = ["transformer", "text encoder", "vae", "adapters"]
    assert names[:5] == [*(f"start: loading the {part}" for part in parts), "start: warming up"]
    assert names[5:14] == [
        f"{task} 96 px: {what}"
        for task in ("removal", "insertion", "white-balance")
        for what in ("a step", "whole edit of 3 steps", "a preview")
    ]
    assert names[14:] == ["white-balance 96 px, 3 steps: engine over bare pipeline", "adapter switch"]
    assert all(figure.value > 0 for figure in figures[5:])
    assert len(lines) == len(figures) + 1
    assert json.loads(json.dumps([asdict(figure) for figure in figures]))[0]["unit"] == "s"


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

    tell([Figure("adapter switch", 3.0, "ms", target=2.0, baseline=1.0)], lines.append)

    assert lines[1].split() == ["adapter", "switch", "3.00", "ms", "<=", "2.00", "ms", "1.00", "ms", "3.00", "missed"]
