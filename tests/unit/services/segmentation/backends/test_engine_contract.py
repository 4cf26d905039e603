"""The contract of every registered engine."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from services.segmentation.backend import Candidate, Click, Prompt, load
from services.segmentation.geometry import Box
from shared.errors import JobCancelled, NothingFound
from shared.messages import Stroke
from tests.unit.services.segmentation.photos import WITH_WEIGHTS, LocalFeatures, ball, never_cancel

if TYPE_CHECKING:
    from services.segmentation.backend import Engine

PICTURE, TRUTH = ball()
PICTURE.setflags(write=False)
HEIGHT, WIDTH = TRUTH.shape
PROMPTS = {
    "point": Prompt(points=(Click(WIDTH / 2, HEIGHT / 2, positive=True),)),
    "points": Prompt(points=(Click(WIDTH / 2, HEIGHT / 2, positive=True), Click(5, 5, positive=False)), candidates=3),
    "box": Prompt(box=Box(60, 30, 180, 150)),
    "strokes": Prompt(
        strokes=(
            Stroke(points=[(100, 90), (140, 90)], radius_px=4),
            Stroke(points=[(10, 10), (10, 170)], radius_px=4, positive=False),
        )
    ),
    "guidance": Prompt(guidance=np.where(np.roll(TRUTH, 6, axis=1) > 0, np.uint8(255), np.uint8(0))),
    "auto": Prompt(auto=True),
}


class Answer(NamedTuple):
    """An engine's candidates, and the features cached for them."""

    found: list[Candidate]
    features: LocalFeatures


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Return the default engine; tests/models asks the others, with tiny models."""
    return load("grabcut", WITH_WEIGHTS)


@pytest.fixture(scope="module", params=PROMPTS)
def prompt(request: pytest.FixtureRequest) -> Prompt:
    """Each kind of prompt."""
    return PROMPTS[request.param]


@pytest.fixture(scope="module")
def cold(engine: Engine, prompt: Prompt) -> Answer:
    """Return the answer on an image without cached features."""
    features = LocalFeatures()
    return Answer(engine.segment(PICTURE, prompt, features, never_cancel), features)


def test_masks_fit_the_picture(cold: Answer, prompt: Prompt) -> None:
    """Masks have the picture's size and 8 bits, are not empty, at most as many as requested, and best first."""
    found = cold.found

    assert 1 <= len(found) <= prompt.candidates
    assert all(candidate.mask.shape == TRUTH.shape for candidate in found)
    assert all(candidate.mask.dtype == np.uint8 and candidate.mask.max() == 255 for candidate in found)
    assert [candidate.score for candidate in found] == sorted((candidate.score for candidate in found), reverse=True)
    assert all(0 <= candidate.score <= 1 for candidate in found)


def test_an_engine_is_deterministic_cold_or_warm(engine: Engine, prompt: Prompt, cold: Answer) -> None:
    """Whether it has seen the picture before makes no difference."""
    looks = cold.features.computed
    warm = engine.segment(PICTURE, prompt, cold.features, never_cancel)

    assert cold.features.computed == looks
    assert [candidate.score for candidate in warm] == [candidate.score for candidate in cold.found]
    assert all(np.array_equal(one.mask, other.mask) for one, other in zip(warm, cold.found, strict=True))


def test_the_input_is_left_alone(cold: Answer) -> None:
    """ImageCache are shared between requests and read-only."""
    assert cold.found
    assert np.array_equal(PICTURE, ball()[0])


def test_a_cancelled_request_stops(engine: Engine, prompt: Prompt) -> None:
    """The checkpoint's exception comes out as it is."""

    def cancel() -> None:
        raise JobCancelled

    with pytest.raises(JobCancelled):
        engine.segment(PICTURE, prompt, LocalFeatures(), cancel)


def test_a_plain_picture_holds_nothing(engine: Engine) -> None:
    """There is no object, and the error text is the one that the client compares."""
    plain = np.full((120, 160, 3), 128, np.uint8)

    with pytest.raises(NothingFound, match=r"^No masks found"):
        engine.segment(plain, Prompt(auto=True), LocalFeatures(), never_cancel)


def test_two_requests_at_once_get_their_own_answers(engine: Engine) -> None:
    """Threads share an engine."""
    left, right = Prompt(box=Box(60, 30, 180, 150)), Prompt(box=Box(100, 60, 240, 180))
    alone = {
        id(prompt): engine.segment(PICTURE, prompt, LocalFeatures(), never_cancel)[0].mask for prompt in (left, right)
    }
    together: list[tuple[int, np.ndarray]] = []

    def work(prompt: Prompt) -> None:
        together.append((id(prompt), engine.segment(PICTURE, prompt, LocalFeatures(), never_cancel)[0].mask))

    threads = [threading.Thread(target=work, args=(prompt,)) for prompt in (left, right) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(together) == 4
    assert all(np.array_equal(mask, alone[key]) for key, mask in together)
