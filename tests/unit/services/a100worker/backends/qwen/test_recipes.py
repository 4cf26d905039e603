"""Recipes: which pictures and words each task shows, and which recipe is used when."""

from __future__ import annotations

import pytest

from services.a100worker.backends.qwen.recipes import adapter, stock
from services.a100worker.backends.qwen.recipes.choice import RECIPES, choose, find
from services.a100worker.backends.qwen.recipes.recipe import Recipe, View
from shared.errors import ConfigError
from shared.messages import Task
from shared.volumes import AdapterFacts

REMOVAL, INSERTION, WHITE_BALANCE = Task.REMOVAL, Task.INSERTION, Task.WHITE_BALANCE
STOCK = [recipe for recipe in RECIPES if recipe.name.startswith("stock")]


def test_without_adapters_every_task_has_its_stock_recipe() -> None:
    """The model does it as it was published."""
    assert choose({}) == {
        REMOVAL: stock.REMOVAL,
        INSERTION: stock.INSERTION,
        WHITE_BALANCE: stock.WHITE_BALANCE,
    }


def test_a_task_with_an_adapter_has_the_recipe_that_it_was_trained_with() -> None:
    """The others are stock."""
    chosen = choose({"removal": AdapterFacts(), "lightning": AdapterFacts()})

    assert chosen == {REMOVAL: adapter.REMOVAL, INSERTION: stock.INSERTION, WHITE_BALANCE: stock.WHITE_BALANCE}


def test_the_manifest_names_another_recipe_and_the_adapter_s_words() -> None:
    """As its catalogue entry has them."""
    recipe = choose({"removal": AdapterFacts(recipe="box", words="Remove Object")})[REMOVAL]

    assert (recipe.name, recipe.views, recipe.adapter) == ("box", (View.BOXED,), True)
    assert recipe.prompt("") == "Remove Object"
    assert recipe.prompt("the cup") == "Remove Object the cup"


def test_both_removals_without_an_adapter_can_be_chosen() -> None:
    """Also where the volume has an adapter, to compare them: it is off then."""
    no_adapter: dict[str, AdapterFacts] = {}
    for trained in (no_adapter, {"removal": AdapterFacts()}):
        recipes = [choose(trained, removal=name)[REMOVAL] for name in ("stock", "stock-tint")]

        assert recipes == [stock.REMOVAL, stock.TINTED_REMOVAL]
        assert not any(recipe.adapter for recipe in recipes)


def test_an_unknown_recipe_is_refused_with_those_that_there_are() -> None:
    """Whether a setting names it or the volume."""
    sentence = r"^There is no recipe 'inpaint' for removal; known are stock, stock-tint, adapter, box, .*\.$"

    with pytest.raises(ConfigError, match=sentence):
        choose({}, removal="inpaint")
    with pytest.raises(ConfigError, match=sentence):
        choose({"removal": AdapterFacts(recipe="inpaint")})
    with pytest.raises(ConfigError, match="There is no recipe 'stock-tint' for insertion"):
        find(INSERTION, "stock-tint")


def test_a_recipe_for_an_adapter_needs_one() -> None:
    """The words and pictures would mean nothing to the model."""
    with pytest.raises(ConfigError, match="The recipe 'adapter' needs an adapter for removal"):
        choose({}, removal="adapter")


@pytest.mark.parametrize("recipe", STOCK, ids=lambda recipe: f"{recipe.task}-{recipe.name}")
def test_stock_shows_no_hole_no_mask_and_no_edges(recipe: Recipe) -> None:
    """The published weights know natural pictures and instructions."""
    assert not {View.HOLLOW, View.MASK, View.EDGES, View.REFERENCE} & set(recipe.views)
    assert not recipe.adapter
    assert "exactly as" in recipe.words


def test_stock_s_words_name_what_is_shown() -> None:
    """The colour of the mark, and the pictures by their numbers."""
    assert "magenta" in stock.TINTED_REMOVAL.words
    assert all(word in stock.INSERTION.words for word in ("Picture 2", "into Picture 1", "magenta", "contact shadow"))
    assert stock.INSERTION.views == (View.MARKED, View.OBJECT)
    assert stock.WHITE_BALANCE.views == (View.PHOTO,)


def test_the_adapters_see_and_read_what_they_were_trained_with() -> None:
    """In this order."""
    assert adapter.REMOVAL.views == (View.HOLLOW, View.MASK, View.FILLED)
    assert adapter.INSERTION.views == (View.REFERENCE, View.MASK, View.HOLLOW)
    assert adapter.WHITE_BALANCE.views == (View.PHOTO, View.EDGES)
    words = [recipe.prompt("") for recipe in (adapter.REMOVAL, adapter.INSERTION, adapter.WHITE_BALANCE)]
    assert words == ["remove object", "insert object", "white balance this image"]
    assert adapter.REMOVAL.prompt("a lawn") == "a lawn"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.task}-{recipe.name}")
@pytest.mark.parametrize(
    "typed",
    ["", "  ", "remove object", "Insert Object ", "white balance this image", " Remove object", "remove\nobject.", "."],
)
def test_words_that_the_client_filled_in_are_no_words(recipe: Recipe, typed: str) -> None:
    """The user typed nothing."""
    assert recipe.prompt(typed) == recipe.words


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.task}-{recipe.name}")
def test_the_user_s_words_are_in_the_prompt(recipe: Recipe) -> None:
    """Braces and all."""
    assert recipe.prompt(" a {prompt} of {grass} ").count("a {prompt} of {grass}") == 1


def test_each_task_knows_a_name_once() -> None:
    """Or the second would never be found."""
    assert len({(recipe.task, recipe.name) for recipe in RECIPES}) == len(RECIPES)
