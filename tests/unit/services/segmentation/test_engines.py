"""Loading engines, and choosing one for a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from services.segmentation.backend import Candidate, load
from services.segmentation.engines import Engines
from shared.errors import ConfigError
from tests.models.seal import seal
from tests.unit.services.segmentation.photos import WITHOUT_WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from services.segmentation.backend import CachedFeatures, Checkpoint, Prompt
    from services.segmentation.settings import Settings
    from shared.image_codec import Rgb


class Everything:
    """An engine that finds the whole picture."""

    name = "everything"
    note = "It looks at nothing."

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def segment(self, image: Rgb, prompt: Prompt, cached: CachedFeatures, checkpoint: Checkpoint) -> list[Candidate]:  # noqa: ARG002 (the seam)
        """Take it all."""
        return [Candidate(np.full(image.shape[:2], 255, np.uint8), 1.0)]


ELSEWHERE = f"{__name__}:Everything"


def test_an_engine_loads_by_name() -> None:
    """As the settings give it."""
    assert load("grabcut", WITHOUT_WEIGHTS).name == "grabcut"


def test_an_engine_from_elsewhere_loads_by_its_path() -> None:
    """So that an engine of one's own needs no change here."""
    assert load(ELSEWHERE, WITHOUT_WEIGHTS).name == "everything"


@pytest.mark.parametrize(
    "name", ["vgg", "no.such.module:Engine", "services.segmentation.backends.grabcut.cut:NoSuchClass"]
)
def test_an_unknown_engine_is_a_wrong_setting(name: str) -> None:
    """The service ends with a sentence, not a stack."""
    with pytest.raises(ConfigError, match="engine"):
        load(name, WITHOUT_WEIGHTS)


def test_no_engine_at_all_is_a_wrong_setting() -> None:
    """An empty list cannot answer."""
    with pytest.raises(ConfigError, match="SEGMENTATION_BACKENDS"):
        Engines(WITHOUT_WEIGHTS.model_copy(update={"backends": " , "}))


def test_the_first_engine_is_the_default() -> None:
    """The order of the setting decides."""
    engines = Engines(WITHOUT_WEIGHTS.model_copy(update={"backends": f"{ELSEWHERE}, grabcut"}))

    assert engines.choose("default")[0].name == "everything"
    assert engines.choose("grabcut")[0].name == "grabcut"


def test_an_engine_that_is_not_loaded_is_replaced_and_that_is_said() -> None:
    """The user gets a mask and the truth about it."""
    engine, note = Engines(WITHOUT_WEIGHTS.model_copy(update={"backends": ELSEWHERE})).choose("birefnet")

    assert engine.name == "everything"
    assert note == "The engine birefnet is not loaded, so everything was used. It looks at nothing."


def test_the_default_is_grabcut_where_no_network_was_pulled() -> None:
    """As on a laptop after `make setup`; nothing of the network is read."""
    engines = Engines(WITHOUT_WEIGHTS)

    assert (engines.choose("default")[0].name, engines.choose("sam")[0].name) == ("grabcut", "grabcut")
    assert "The engine sam is not loaded" in (engines.choose("sam")[1] or "")


@pytest.mark.parametrize("name", ["sam", "mobile-sam"])
def test_files_that_are_no_network_end_the_start(tmp_path: Path, name: str) -> None:
    """With one sentence; the service does not fall back in silence."""
    home = tmp_path / name
    home.mkdir()
    for file in ("encoder.onnx", "decoder.onnx"):
        (home / file).write_bytes(b"no network")
    seal(home)

    with pytest.raises(ConfigError, match=rf"^The file {name}/encoder\.onnx cannot be read as ONNX\.$"):
        Engines(WITHOUT_WEIGHTS.model_copy(update={"model_dir": tmp_path}))


def test_missing_weights_are_said() -> None:
    """The coarse method is not passed off as the good one."""
    _, note = Engines(WITHOUT_WEIGHTS).choose("default")

    assert note is not None
    assert "coarse" in note
