"""Saliency maps by the real weights."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.segmentation import saliency
from services.segmentation.geometry import Box, whole_image
from services.segmentation.saliency import Saliency
from services.stack.process import ROOT
from shared.errors import ConfigError, JobCancelled
from tests.unit.services.segmentation.photos import MODELS, LocalFeatures, ball, needs_weights, never_cancel, photo

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = MODELS / "u2netp" / "u2netp.onnx"


@pytest.fixture(scope="module")
def network() -> Saliency:
    """Return the real network."""
    return Saliency(WEIGHTS.read_bytes())


@needs_weights
def test_the_subject_stands_out(network: Saliency) -> None:
    """In the photo of the rocket, the rocket is salient and the sky is not."""
    image = photo("rocket")

    seen = network.predict(image, LocalFeatures(), whole_image(image))

    assert seen.shape == (320, 320)
    assert seen[190, 161] > 200
    assert seen[60, 250] < 10


@needs_weights
def test_nothing_stands_out_in_a_plain_picture(network: Saliency) -> None:
    """The network's noise is not stretched into a subject."""
    plain = np.full((200, 300, 3), 128, np.uint8)

    assert not network.predict(plain, LocalFeatures(), whole_image(plain)).any()


@needs_weights
def test_a_black_picture_is_no_division_by_zero(network: Saliency) -> None:
    """The input is divided by its brightest value."""
    black = np.zeros((20, 30, 3), np.uint8)

    assert not network.predict(black, LocalFeatures(), whole_image(black)).any()


@needs_weights
def test_each_window_is_looked_at_once(network: Saliency) -> None:
    """The saliency depends on the window."""
    (image, _), features = ball(), LocalFeatures()

    everything = network.predict(image, features, whole_image(image))

    assert network.predict(image, features, whole_image(image)) is everything
    assert not np.array_equal(network.predict(image, features, Box(0, 0, 100, 100)), everything)
    assert features.computed == 2


@needs_weights
def test_a_look_that_is_dropped_leaves_nothing(network: Saliency) -> None:
    """It ends in the middle of the network, and the next one computes the map."""
    (image, _), features, asked = ball(), LocalFeatures(), list[bool]()

    def checkpoint() -> None:
        asked.append(True)
        if len(asked) > 1:  # the first time is before the run
            raise JobCancelled

    with pytest.raises(JobCancelled):
        network.predict(image, features, whole_image(image), checkpoint)

    assert not features.arrays
    assert network.predict(image, features, whole_image(image), never_cancel).any()


@needs_weights
def test_the_map_does_not_depend_on_the_threads(network: Saliency) -> None:
    """Requests look with two, and the look ahead of them with one."""
    image = photo("coffee")

    alone = Saliency(WEIGHTS.read_bytes(), 1).predict(image, LocalFeatures(), whole_image(image))

    assert np.array_equal(alone, network.predict(image, LocalFeatures(), whole_image(image)))


@needs_weights
def test_nobody_is_told_that_a_model_was_loaded(tmp_path: Path) -> None:
    """Onnxruntime would store telemetry in the user's home, except in our tests (CI)."""
    home = {name: value for name, value in os.environ.items() if name not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    load = "import sys, pathlib, services.segmentation.saliency as it; assert it.load(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", load, str(MODELS)]
    subprocess.run(command, cwd=ROOT, env=home | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}, check=True)

    assert list(tmp_path.iterdir()) == []


def test_without_weights_there_is_none(tmp_path: Path) -> None:
    """The engine then has a note that it works coarsely."""
    assert saliency.load(tmp_path) is None


def test_other_weights_are_refused(tmp_path: Path) -> None:
    """An unknown model file could run unreviewed code paths."""
    (tmp_path / "u2netp").mkdir()
    (tmp_path / "u2netp" / "u2netp.onnx").write_bytes(b"something else")

    with pytest.raises(ConfigError, match="u2netp"):
        saliency.load(tmp_path)
