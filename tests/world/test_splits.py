"""What training leaves out, and what it keeps."""

import pytest

from sparsight.core.errors import UserError
from sparsight.world.scene import ACTIONS, COLORS, DIGITS, LETTERS, SHAPES, Look
from sparsight.world.splits import SPLITS, actor, held_out_action, held_out_look, split_index

NOUNS = (*SHAPES, *LETTERS, *DIGITS)
ACTORS = (*SHAPES, "letter", "digit", "sprite", "sign")


def test_each_noun_is_held_out_in_one_color_of_eight():
    for noun in NOUNS:
        assert sum(held_out_look(noun, color) for color in COLORS) == 1, noun


def test_each_color_is_held_out_with_some_noun_and_seen_with_most():
    for color in COLORS:
        held = sum(held_out_look(noun, color) for noun in NOUNS)
        assert 1 <= held <= len(NOUNS) // 4, color


def test_no_two_shapes_are_held_out_in_the_same_color():
    pairs = [(shape, c) for shape in SHAPES for c in COLORS if held_out_look(shape, c)]
    assert len({color for _, color in pairs}) == len(SHAPES)


def test_every_action_is_seen_with_most_things_and_every_thing_with_most_actions():
    for action in ACTIONS:
        assert sum(held_out_action(noun, action) for noun in ACTORS) <= 2, action
    for noun in ACTORS:
        assert sum(held_out_action(noun, action) for action in ACTIONS) <= 2, noun
    held = sum(held_out_action(noun, action) for noun in ACTORS for action in ACTIONS)
    assert 1 / 12 < held / (len(ACTORS) * len(ACTIONS)) < 1 / 6


def test_held_out_actions_name_things_and_actions_that_exist():
    from sparsight.world import splits

    for noun, action in splits._HELD_OUT_ACTIONS:
        assert noun in ACTORS
        assert action in ACTIONS


def test_a_photograph_has_no_held_out_color():
    assert not held_out_look("horse", "")


@pytest.mark.parametrize(
    ("look", "name"),
    [
        (Look("shape", "ring", "red"), "ring"),
        (Look("letter", "K", "red"), "letter"),
        (Look("sprite", "horse"), "sprite"),
    ],
)
def test_actors_are_shapes_or_kinds(look: Look, name: str):
    assert actor(look) == name


def test_an_unknown_split_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown split 'tests'; did you mean 'test'"):
        split_index("tests")
    assert [split_index(split) for split in SPLITS] == [0, 1, 2, 3]
