"""Scorers of users' own answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.bench.scorers import choice, chosen, named_scorer, number, scorer_for, text
from sparsight.core.errors import UserError

COLORS = ["red", "dark red", "blue"]


@pytest.mark.parametrize("reply", ["a red ring", "The Red Ring.", "red ring", " RED, ring! "])
def test_case_articles_and_punctuation_do_not_matter(reply: str):
    assert text(["A red ring."])(reply) == 1.0


@pytest.mark.parametrize("reply", ["", "red", "ring red", "it is a red ring", "red rings"])
def test_more_or_less_than_the_text_is_wrong(reply: str):
    assert text(["A red ring."])(reply) == 0.0


def test_any_of_several_texts_is_right():
    assert text(["sofa", "couch"])("A couch.") == 1.0
    assert text(["The", "a"])("the") == 1.0  # an answer of articles alone stays


@pytest.mark.parametrize(
    ("reply", "right"),
    [("4", 1), ("There are 4.", 1), ("four", 1), ("4.0", 1), ("4 and 4", 1), ("3 or 4", 0),
     ("14", 0), ("4th", 0), ("-4", 0), ("x4", 0), ("", 0)],
)  # fmt: skip
def test_a_number_is_the_only_one_of_the_reply(reply: str, right: float):
    assert scorer_for(["4"])(reply) == right


def test_numbers_are_read_as_people_write_them():
    assert number(["1200"])("1,200 in all") == 1.0
    assert number(["0.5"])(".5") == 1.0
    assert number(["-2"])("minus? -2") == 1.0


@pytest.mark.parametrize(
    ("reply", "place"),
    [("B", 1), ("b.", 1), ("(B)", 1), ("The answer is B", 1), ("Answer: B", 1), ("dark red", 1),
     ("B. dark red", 1), ("B) because it is dark", 1), ("It is dark red.", 1), ("Red", 0),
     ("red or blue", None), ("B. blue", None), ("D", None), ("", None), ("green", None),
     ("A dark red", 1)],
)  # fmt: skip
def test_an_option_is_meant_by_its_letter_or_its_text(reply: str, place: int | None):
    assert chosen(reply, COLORS) == place


def test_the_text_of_an_option_goes_before_its_letter():
    swapped = ["B", "A"]
    assert chosen("A", swapped) == 1
    assert choice(swapped, ["A"])("A") == 1.0


def test_an_article_is_not_taken_for_a_letter():
    assert chosen("A blue one", COLORS) == 2
    assert chosen("a cat", ["a dog", "a cat"]) == 1


def test_an_answer_is_given_as_letter_or_text():
    assert choice(COLORS, ["C"])("blue") == 1.0
    assert choice(COLORS, ["blue"])("C") == 1.0
    assert choice(COLORS, ["blue"])("A") == 0.0
    with pytest.raises(UserError, match="'green' is neither an option nor the letter of one"):
        choice(COLORS, ["green"])


def test_a_named_scorer_is_taken_from_those_given():
    found = named_scorer("half", "x", ["y"], 2.0, {"half": lambda *given: len(given) / 8})
    assert found("reply") == 0.5
    with pytest.raises(UserError, match="unknown scorer 'box'"):
        named_scorer("box", "x", (), 0.0, None)
    assert named_scorer("choice", "A", COLORS, 0.0, None)("red") == 1.0
    assert named_scorer("words", "red", COLORS, 0.0, None)("red") == 1.0


@settings(max_examples=30)
@given(st.text(max_size=40))
def test_no_reply_breaks_a_scorer(reply: str):
    for score in (text(["red"]), number(["4"]), choice(COLORS, ["B"])):
        assert score(reply) in (0.0, 1.0)
