"""`--set`, and what tells two recipes apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from sparsight.core.errors import UserError
from sparsight.train.recipe import Lora
from sparsight.train.settings import changed, differences, fingerprint, keys
from tests.train.tiny import CountedLetters, recipe, stage

RECIPE = recipe(
    stage("look", rates={"objective.*": 1e-3, "*": 1e-4}, adapter=Lora()), stage("ask", pack=64)
)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("seed", "3", 3),
        ("dtype", "float32", "float32"),
        ("stages.look.steps", "100", 100),
        ("stages.look.warmup", "1", 1.0),
        ("stages.look.shuffle", "false", False),
        ("stages.look.betas", "0.9,0.98", (0.9, 0.98)),
        ("stages.look.train", "model.*,objective.*", ("model.*", "objective.*")),
        ("stages.look.pack", "128", 128),
        ("stages.ask.pack", "none", None),
        ("stages.look.rates.objective.*", "2e-3", 2e-3),
        ("stages.look.adapter.rank", "8", 8),
    ],
)
def test_a_value_is_set_from_text_and_as_it_is(key: str, text: str, value: Any):
    for given in (text, value):
        made = changed(RECIPE, {key: given})
        found: Any = made
        name = key
        if key.startswith("stages."):
            _, which, name = key.split(".", 2)
            found = made.stage(which)
        if name.startswith("rates."):
            found, name = found.rates, name.removeprefix("rates.")
            assert found[name] == value
            continue
        for part in name.split("."):
            found = getattr(found, part)
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sed", "1", r"unknown key 'sed' .*did you mean 'seed'"),
        ("stages.look.stepz", "1", r"'stages\.look\.stepz' .*did you mean 'steps'"),
        ("stages.lok.steps", "1", r"unknown stage in 'stages\.lok\.steps': 'lok'; did you"),
        ("stages.look.rates.objectiv.*", "1", r"did you mean 'objective\.\*'"),
        ("stages.look.adapter.rnk", "1", r"did you mean 'rank'"),
        ("stages.ask.adapter.rank", "1", "the recipe has no adapter there"),
        ("stages.look.data", "x", "unknown key"),
        ("stages.look.name", "x", "unknown key"),
        ("stages.look", "x", r"is a group of keys"),
        ("stages", "x", r"is a group of keys: name one, such as stages\.ask\.accumulate"),
        ("stages.look.rates", "1", r"group of keys: name one, such as stages\.look\.rates\.\*"),
        ("stages.look.steps.x", "1", "steps is a single value"),
        ("stages.look.steps", "many", r"stages\.look\.steps must be a whole number, not 'many'"),
        ("stages.look.steps", 2.5, "must be a whole number, not 2.5"),
        ("stages.look.steps", True, "must be a whole number, not True"),
        ("stages.look.warmup", "x", "must be a number"),
        ("stages.look.shuffle", "1", "must be true or false"),
        ("stages.look.betas", "1", "two numbers with a comma between"),
        ("stages.look.pack", "x", "a whole number or none"),
        ("stages.look.rates.*", "fast", "must be a number"),
    ],
)
def test_a_wrong_key_or_value_is_named(key: str, value: Any, words: str):
    with pytest.raises(UserError, match=words):
        changed(RECIPE, {key: value})


def test_every_key_that_is_listed_can_be_set():
    listed = keys(RECIPE)
    assert {"seed", "stages.ask.pack", "stages.look.rates.*", "stages.look.adapter.rank"} <= set(
        listed
    )
    for key in listed:
        with pytest.raises(UserError, match="must be"):
            changed(RECIPE, {key: object()})


@dataclass
class Source:
    """Data that is made by an instance."""

    folder: str

    def __call__(self) -> CountedLetters:
        return CountedLetters(3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 9}, "stages.spell.steps: 6 -> 9"),
        ({"data": partial(CountedLetters, 5)}, "tests.train.tiny.CountedLetters(5)"),
        ({"data": partial(CountedLetters, count=5)}, "tests.train.tiny.CountedLetters(count=5)"),
        ({"data": Source("films")}, "tests.train.test_settings.Source({'folder': 'films'})"),
        ({"adapter": Lora(rank=4)}, "stages.spell.adapter.rank: (absent) -> 4"),
    ],
)
def test_a_difference_says_what_was_and_what_is(options: dict[str, Any], said: str):
    found = differences(fingerprint(recipe()), fingerprint(recipe(stage(**options))))
    assert any(said in text for text in found)


def test_what_changes_nothing_learned_makes_no_difference():
    free = {"workers": 2, "save_every": 7, "log_every": 3, "check": lambda _: {}, "check_every": 1}
    assert fingerprint(recipe()) == fingerprint(recipe(stage(**free)))
    assert differences(fingerprint(recipe()), fingerprint(recipe())) == []
