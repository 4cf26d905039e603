"""Loading engines by name, and blending by a region."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from services.a100worker.backend import PARAMETERS, blend, facts_of, load, parameters_of
from services.a100worker.backends.scripted import Scripted
from shared.errors import ConfigError
from shared.messages import Task
from tests.unit.services.a100worker.recorder import SETUP, noise

if TYPE_CHECKING:
    from services.a100worker.backend import Engine


def test_an_engine_is_loaded_by_its_name() -> None:
    """The registry has its import path."""
    engine = load("scripted", *SETUP)

    assert isinstance(engine, Scripted)


def test_an_engine_is_loaded_by_module_and_class() -> None:
    """An engine from elsewhere needs no entry in the registry."""
    engine = load("services.a100worker.backends.scripted:Scripted", *SETUP)

    assert engine.name == "scripted"


@pytest.mark.parametrize("name", ["", "nonsense", "no.such.module:Engine", "services.a100worker.backend:Missing"])
def test_an_unknown_engine_is_a_wrong_setting(name: str) -> None:
    """The message names the engines that exist."""
    with pytest.raises(ConfigError, match="classical"):
        load(name, *SETUP)


def test_an_engine_obeys_what_it_lists() -> None:
    """An engine that lists nothing obeys all; the classical one ignores words, steps and guidance."""
    scripted, classical = load("scripted", *SETUP), load("classical", *SETUP)
    obeyed = {task: parameters_of(classical, task) for task in Task}
    classical.close()

    assert all(parameters_of(scripted, task) == PARAMETERS[task] for task in Task)
    assert "variant" in obeyed[Task.REMOVAL]
    assert obeyed[Task.WHITE_BALANCE] == {"strength", "temperature"}
    assert not any({"prompt", "negative_prompt", "steps", "guidance"} & named for named in obeyed.values())


def test_a_blend_keeps_the_base_where_the_region_is_black() -> None:
    """Black keeps every byte, white takes every byte, grey lies between."""
    base, edited = noise(40, 60, seed=1), noise(40, 60, seed=2)
    region = np.zeros((40, 60), np.uint8)
    region[10:20, 10:20] = 255
    region[20:30, 10:20] = 128

    result = blend(base, edited, region)

    assert np.array_equal(result[region == 0], base[region == 0])
    assert np.array_equal(result[region == 255], edited[region == 255])
    grey = region == 128
    assert np.all(np.abs(result[grey] - (base[grey] / 2.0 + edited[grey] / 2.0)) <= 1)


def test_a_blend_of_nothing_is_a_copy_of_the_base() -> None:
    """With an all-black region."""
    base = noise(5, 7)

    result = blend(base, noise(5, 7, seed=2), np.zeros((5, 7), np.uint8))

    assert np.array_equal(result, base)
    assert result is not base


def test_an_engine_without_facts_reports_none() -> None:
    """An engine of one's own need not subclass the interface, and has no more than its methods and its name."""

    class Own:
        name = "own"

    class Model(Own):
        facts = {"recipe of removal": "stock"}  # noqa: RUF012 (never changed)

    plain, model = cast("Engine", Own()), cast("Engine", Model())

    assert (facts_of(plain), facts_of(model)) == ({}, {"recipe of removal": "stock"})
