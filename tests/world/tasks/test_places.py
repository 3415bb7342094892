"""Sides, boxes, regions and reading."""

import numpy as np
import pytest

from sparsight.world.scene import Camera, Scene, constant
from sparsight.world.sprites import SIGN_LETTERS
from sparsight.world.tasks import ask, right
from tests.world.tasks.building import answers, asked, facts, film, picture, sign, thing

RING = thing("red ring", (0.2, 0.5))


@pytest.mark.parametrize(
    ("at", "side"),
    [
        ((0.2, 0.5), "left"), ((0.8, 0.6), "right"), ((0.4, 0.15), "top"), ((0.5, 0.8), "bottom"),
        ((0.55, 0.5), None), ((0.2, 0.2), None), ((0.25, 0.3), None),
    ],
)  # fmt: skip
def test_a_side_is_told_where_it_is_clear(at: tuple[float, float], side: str | None):
    assert answers("where", picture(thing(at=at))) == ({side} if side else set())


@pytest.mark.parametrize(
    ("at", "relation"),
    [
        ((0.7, 0.5), "right"), ((0.45, 0.8), "below"), ((0.45, 0.2), "above"),
        ((0.7, 0.75), None), ((0.5, 0.5), None),
    ],
)  # fmt: skip
def test_a_relation_is_told_where_it_is_clear(at: tuple[float, float], relation: str | None):
    scene = picture(thing("red ring", (0.45, 0.5), 0.18), thing("blue star", at, 0.18))
    found = asked("where", scene, "beside").get("blue star/red ring")
    assert found == relation


def test_relations_are_judged_in_units_and_sides_in_shares_of_a_wide_picture():
    scene = picture(thing(at=(0.5, 0.5)), thing("blue star", (0.5, 0.8), 0.15), aspect=3.0)
    assert asked("where", scene, "beside")["blue star/red ring"] == "below"
    assert asked("where", scene, "side")["red ring"] == "left"


def test_things_that_move_have_no_side_and_no_box():
    scene = film(thing(to=(0.2, 0.5), at=(0.8, 0.5)))
    for task in ("where", "box", "region"):
        assert not facts(task, scene)


def test_the_camera_decides_where_things_are():
    scene = picture(thing(at=(0.5, 0.5)), camera=Camera(x=constant(0.3)))
    assert answers("where", scene) == {"left"}
    assert answers("box", scene) == {"[10, 40, 30, 60]"}


def test_boxes_are_cut_off_at_the_edge():
    assert answers("box", picture(thing(at=(0.05, 0.5)))) == {"[0, 40, 15, 60]"}


def test_handwriting_does_not_fill_its_box():
    scene = picture(thing("red digit 1"))
    assert not facts("box", scene)
    assert answers("region", scene) == {"red digit 1"}


def test_a_region_is_described_where_one_thing_alone_fills_it():
    near = thing("blue star", (0.34, 0.5), 0.2)
    assert "red ring" in answers("region", picture(RING), "describe")
    assert "blue star" not in answers("region", picture(near, RING), "describe")


def test_a_name_that_two_share_locates_nothing():
    twins = picture(RING, thing("red ring", (0.8, 0.5)))
    assert not facts("box", twins)
    assert not answers("region", twins, "locate")
    assert answers("region", twins, "describe") == {"red ring"}


# Reading


@pytest.mark.parametrize(
    ("letters", "size"), [(0.06, "tiny"), (0.09, "small"), (0.15, "medium"), (0.23, "large")]
)
def test_signs_are_read_in_four_sizes(letters: float, size: str):
    question = ask(
        "read", picture(sign("KA", height=letters / SIGN_LETTERS)), np.random.default_rng(0)
    )
    assert question is not None
    assert (question.size, question.answer) == (size, "KA")


def test_zoom_makes_text_larger():
    scene = picture(sign("KA", height=0.11 / SIGN_LETTERS), camera=Camera(zoom=constant(1.25)))
    assert [fact.size for fact in facts("read", scene)] == ["medium"]


def test_of_several_signs_the_color_of_the_letters_tells_which():
    two = picture(sign("KA", "red", (0.3, 0.3), 0.1), sign("MX", "blue", (0.7, 0.7), 0.1))
    assert asked("read", two) == {" with red letters": "KA", " with blue letters": "MX"}
    same = picture(sign("KA", "red", (0.3, 0.3), 0.1), sign("MX", "red", (0.7, 0.7), 0.1))
    assert asked("read", same) == {}


@pytest.mark.parametrize(
    "scene",
    [
        picture(sign("KA", at=(0.05, 0.5))),
        picture(sign("KA"), thing("red ring", (0.65, 0.5), 0.1)),
    ],
    ids=["cut off", "covered"],
)
def test_a_sign_that_is_not_whole_is_not_read(scene: Scene):
    assert not facts("read", scene)


# Options


@pytest.mark.parametrize(
    ("task", "scene"), [("box", picture(RING)), ("read", picture(sign("KA7")))]
)
def test_wrong_options_are_like_the_right_one_but_wrong(task: str, scene: Scene):
    for seed in range(20):
        open_one = ask(task, scene, np.random.default_rng(seed))
        lettered = ask(task, scene, np.random.default_rng(seed), "choice")
        assert open_one is not None
        assert lettered is not None
        assert len(lettered.choices) == 4
        assert sum(right(open_one, option) for option in lettered.choices) == 1
        assert {len(option.split()) for option in lettered.choices} == {
            len(open_one.answer.split())
        }
