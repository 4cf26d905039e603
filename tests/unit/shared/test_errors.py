"""The error tree: stable codes, and the way from a code back to its class."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from shared import errors
from shared.errors import (
    ArtMancerError,
    BadInput,
    BrokerUnavailable,
    Busy,
    StreamFull,
    Unavailable,
    describe_invalid,
    from_code,
)


def tree(root: type[ArtMancerError]) -> list[type[ArtMancerError]]:
    """Return the class and all its subclasses, also those in other modules."""
    return [root, *(found for child in root.__subclasses__() for found in tree(child))]


ALL = tree(ArtMancerError)
IN_THE_TREE = [kind for kind in ALL if kind.__module__ == errors.__name__]


def test_every_code_is_unique() -> None:
    """A code on the wire means one thing only, also those of the bus."""
    codes = [kind.code for kind in ALL]

    assert errors.StreamFull in ALL
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_the_docstring_is_the_default_message(kind: type[ArtMancerError]) -> None:
    """The bare class has a whole sentence as its message."""
    message = kind().message

    assert message == str(kind()) == (kind.__doc__ or "").strip()
    assert message


@pytest.mark.parametrize("kind", IN_THE_TREE, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_from_its_code(kind: type[ArtMancerError]) -> None:
    """Class and message cross the wire."""
    error = from_code(kind.code, "The cat is asleep.")

    assert type(error) is kind
    assert error.message == "The cat is asleep."


def test_an_unknown_code_is_the_root_class() -> None:
    """A newer service may report a code that this one does not know."""
    error = from_code("invented_later", "Something new.")

    assert type(error) is ArtMancerError
    assert error.message == "Something new."


def test_bad_input_is_never_worth_a_retry() -> None:
    """The gateway answers 429 and 503 for Busy and Unavailable, and no input error is one of them."""
    assert not any(issubclass(kind, Busy | Unavailable) for kind in tree(BadInput))


def test_what_is_full_or_down_is_worth_a_retry() -> None:
    """The caller may try again in a moment."""
    assert issubclass(StreamFull, Busy)
    assert issubclass(BrokerUnavailable, Unavailable)


class Oven(BaseModel):
    """A model with one field."""

    heat: int


def test_an_invalid_field_is_described_in_a_sentence() -> None:
    """The sentence names the field, but not its value, which may be a secret."""
    with pytest.raises(ValidationError) as refused:
        Oven.model_validate_json('{"heat": "secret"}')

    sentence = describe_invalid(refused.value.errors(), "oven")

    assert sentence.startswith("The field heat is not valid: input should be a valid integer")
    assert "secret" not in sentence


def test_an_error_without_a_field_names_the_whole() -> None:
    """Broken JSON has no field."""
    with pytest.raises(ValidationError) as refused:
        Oven.model_validate_json("{")

    assert describe_invalid(refused.value.errors(), "oven").startswith("The oven is not valid: invalid JSON")


def test_a_field_name_from_outside_is_cut() -> None:
    """An unknown field has the name that its sender chose."""
    error = {"loc": ("Q" * 10_000,), "msg": "Extra inputs are not permitted"}

    assert describe_invalid([error], "oven") == f"The field {'Q' * 100} is not valid: extra inputs are not permitted."
