"""Existence, color, shape and count: right answers, and silence where there might be two."""

import pytest

from sparsight.world.scene import SHAPES, Background, Scene, always, constant
from sparsight.world.splits import held_out_look
from tests.world.tasks.building import answers, asked, facts, film, picture, sign, thing

RING, STAR = thing("red ring", (0.2, 0.5)), thing("blue star", (0.8, 0.5))
PHOTO = always(Background("photo", 1))


# Existence


def test_what_is_there_exists_and_what_is_not_does_not():
    found = asked("exists", picture(RING, STAR))
    assert found["a red ring"] == found["a star"] == found["a blue thing"] == "yes"
    no = {name for name, answer in found.items() if answer == "no"}
    assert "a red star" in no
    assert len(no) > 12


def test_every_kind_of_existence_is_asked_as_often_with_yes_as_with_no():
    for seed in range(20):
        rows = facts("exists", picture(RING, STAR, thing("green letter K", (0.5, 0.1))), seed)
        for group in ("noun", "both", "color"):
            mine = [fact.answer for fact in rows if fact.group == group]
            assert mine.count("yes") == mine.count("no") > 0


def test_only_pairs_of_training_are_denied_in_training_and_held_out_ones_in_combos():
    held = set()
    for split in ("train", "combos"):
        for seed in range(60):
            for fact in facts("exists", picture(RING, thing("green star"), split=split), seed):
                words = fact.fill["thing"].split()
                if fact.group == "both" and fact.answer == "no":
                    held.add((split, held_out_look(words[2], words[1])))
    assert ("train", False) in held
    assert ("train", True) not in held


@pytest.mark.parametrize(("there", "alike"), [("digit 0", "ring"), ("letter X", "cross")])
def test_nothing_is_denied_that_looks_like_what_is_there(there: str, alike: str):
    other = thing("blue star", (0.8, 0.5))
    assert f"a {alike}" in asked("exists", picture(RING if alike == "cross" else STAR, other))
    found = {
        fact.fill["thing"]
        for seed in range(40)
        for fact in facts("exists", picture(thing(f"red {there}", (0.2, 0.5)), other), seed)
        if fact.answer == "no"
    }
    assert found
    assert f"a {alike}" not in found
    assert f"a red {alike}" not in found


def test_what_is_half_outside_is_neither_there_nor_not():
    found = asked("exists", picture(thing("red ring", (0.0, 0.5)), STAR))
    assert found
    assert not {"a ring", "a red ring", "a red thing"} & set(found)


def test_what_a_film_shows_in_one_frame_only_is_not_asked_about():
    brief = thing("red letter K", shown=((1.0, 1.5),))
    found = asked("exists", film(brief, STAR))
    assert found
    assert not {"a letter K", "a red letter K", "a red thing"} & set(found)


@pytest.mark.parametrize(
    "scene", [picture(RING, thing("horse", (0.8, 0.5))), picture(RING, backgrounds=PHOTO)]
)
def test_photographs_may_hold_any_color(scene: Scene):
    assert not answers("exists", scene, "color")
    assert answers("exists", scene, "noun")


# Color and shape


def test_color_is_asked_by_what_does_not_tell_it():
    assert asked("color", picture(RING, STAR)) == {"ring": "red", "star": "blue"}


def test_two_of_a_noun_have_no_color_to_ask_for():
    assert asked("color", picture(RING, thing("green ring", (0.8, 0.5)))) == {}


def test_the_only_letter_is_called_letter_too():
    found = asked("color", picture(thing("red letter K")))
    assert found == {"letter K": "red", "letter": "red"}


def test_a_thing_that_changes_color_has_none_to_ask_for():
    assert not facts("color", film(thing(("red ring", "blue ring"), changes=(2.0,))))


def test_photographs_and_signs_have_no_color_to_ask_for():
    assert not facts("color", picture(thing("horse"), sign("KA", at=(0.5, 0.2), height=0.1)))


def test_the_largest_thing_is_asked_about_where_it_clearly_is():
    large = thing("green square", (0.7, 0.5), 0.4)
    assert asked("color", picture(RING, large))["largest thing"] == "green"
    alike = thing("green square", (0.7, 0.5), 0.23)
    assert "largest thing" not in asked("color", picture(RING, alike))


def test_shape_is_asked_by_color_where_one_thing_has_it():
    assert asked("shape", picture(RING, STAR)) == {"red": "ring", "blue": "star"}
    twin = thing("red letter K", (0.8, 0.5))
    assert asked("shape", picture(RING, twin)) == {}
    assert asked("shape", picture(RING, sign("KA", "red", (0.5, 0.1), 0.1))) == {}


def test_letters_have_no_shape():
    assert not facts("shape", picture(thing("red letter K")))


def test_a_color_that_comes_later_is_not_a_name():
    other = thing(("blue star", "red star"), (0.8, 0.5), changes=(2.0,))
    assert asked("shape", film(RING, other)) == {}


@pytest.mark.parametrize(
    "hidden",
    [
        picture(RING, thing("blue star", (0.22, 0.5))),
        picture(thing("red ring", (0.98, 0.5))),
        picture(thing("red ring", height=0.03)),
        picture(thing("red ring", scale=constant(0.2))),
    ],
    ids=["covered", "cut off", "tiny", "shrunk"],
)
def test_what_is_hardly_seen_is_not_asked_about(hidden: Scene):
    assert "red" not in answers("color", hidden)
    assert "ring" not in answers("shape", hidden)


def test_what_lies_behind_hides_nothing():
    assert answers("color", picture(thing("blue star", (0.22, 0.5)), RING)) == {"red"}


# Count


def test_things_colors_and_shapes_are_counted():
    scene = picture(RING, thing("red star", (0.8, 0.5)), thing("blue ring", (0.5, 0.1), 0.15))
    assert answers("count", scene, "things") == {"3"}
    found = asked("count", scene)
    counted = {name.split()[0]: n for name, n in found.items() if name[0] in "rbsw"}
    assert counted["red"] == counted["rings/"] == "2"
    assert counted["blue"] == counted["stars/"] == "1"
    assert "0" in found.values()


def test_one_that_is_hardly_seen_leaves_all_uncounted():
    assert not facts("count", picture(RING, thing("blue star", (1.0, 0.5))))


def test_plates_and_pointers_are_not_counted_among_things():
    assert not answers("count", picture(RING, sign("KA", "blue", (0.5, 0.2), 0.1)), "things")
    pointed = film(RING, cursor=(constant(0.1), constant(0.1)))
    assert not facts("count", pointed)


def test_rings_are_not_counted_beside_a_zero():
    scene = picture(RING, thing("blue digit 0", (0.8, 0.5)))
    assert not any("ring" in name or "circle" in name for name in asked("count", scene))


def test_films_in_which_things_come_and_go_are_counted_as_a_whole():
    late = thing("blue star", (0.8, 0.5), shown=((1.0, 9.0),))
    found = asked("count", film(RING, late))
    assert {"things/ in the whole film", "objects/ in the whole film"} & set(found)
    assert answers("count", film(RING, late), "things") == {"2"}


def test_the_same_thing_again_is_not_counted_twice():
    again = thing("red ring", (0.8, 0.5), shown=((2.0, 9.0),))
    before = thing("red ring", (0.2, 0.5), shown=((0.0, 2.0),))
    assert not facts("count", film(before, again))


def test_a_scene_with_all_shapes_denies_none_of_them():
    places = [(x, y) for x in (0.2, 0.5, 0.8) for y in (0.25, 0.75)]
    colors = ("red", "green", "blue", "yellow", "white", "black")
    scene = picture(
        *(
            thing(f"{color} {shape}", at=place)
            for color, shape, place in zip(colors, SHAPES, places, strict=True)
        )
    )
    denied = [fact.fill["thing"] for fact in facts("exists", scene) if fact.answer == "no"]
    assert denied
    assert not {f"a {shape}" for shape in SHAPES} & set(denied)
