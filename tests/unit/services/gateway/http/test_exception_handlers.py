"""Every error has a status, on purpose."""

from __future__ import annotations

import pytest

from services.gateway.http.exception_handlers import STATUS, validation_message
from shared import errors


def codes(root: type[errors.ArtMancerError]) -> set[str]:
    return {root.code}.union(*(codes(child) for child in root.__subclasses__()))


def test_every_error_that_is_not_ours_to_mend_has_a_status() -> None:
    """A code without a status would be answered 500, as a fault of the system."""
    missing = codes(errors.ArtMancerError) - STATUS.keys()

    assert missing == {
        "internal", "engine_failed", "engine_hung", "card_lost", "config", "max_deliver", "submission_lost"
    }  # fmt: skip


def test_only_what_helps_to_try_again_says_so() -> None:
    """429 and 503 are only for errors that end by themselves."""
    again = {code for code, status in STATUS.items() if status in {429, 503}}

    assert again == {
        code for code in STATUS if isinstance(errors.from_code(code, "x"), errors.Busy | errors.Unavailable)
    }


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ({"type": "json_invalid", "loc": (), "msg": "Invalid JSON: …"}, "The body is not valid JSON."),
        ({"type": "missing", "loc": ("body", "prompt"), "msg": "Field required"},
         "The field prompt is not valid: field required."),
        ({"type": "x", "loc": ("bbox", 2), "msg": "Input should be a valid number"},
         "The field bbox.2 is not valid: input should be a valid number."),
        ({"type": "model_type", "loc": (), "msg": "Input should be an object"},
         "The request is not valid: input should be an object."),
    ],
)  # fmt: skip
def test_what_pydantic_says_becomes_a_sentence(error: dict[str, object], sentence: str) -> None:
    """It is about the first problem and repeats no input."""
    said = validation_message([{**error, "input": "SECRET"}])

    assert said == sentence


def test_a_name_that_somebody_made_up_is_cut_short() -> None:
    """A name of megabytes does not make a response of megabytes."""
    said = validation_message(
        [{"type": "extra_forbidden", "loc": ("Q" * 10**6,), "msg": "Extra inputs are not permitted"}]
    )

    assert said == f"The field {'Q' * 100} is not valid: extra inputs are not permitted."
