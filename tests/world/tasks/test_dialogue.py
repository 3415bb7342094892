"""Several turns: what is asked later refers back, and nothing is asked that was told."""

from itertools import pairwise

import numpy as np

from sparsight.world.sampler import sample_scene
from sparsight.world.tasks import Question, conversation
from tests.world.tasks.building import picture, thing

TWO = picture(thing("red ring", (0.2, 0.5)), thing("blue star", (0.8, 0.5)))


def talks(scene, turns: int, count: int = 60) -> list[list[Question]]:
    return [conversation(scene, np.random.default_rng(seed), turns) for seed in range(count)]


def test_a_conversation_has_as_many_turns_as_are_asked_for():
    for turns in (1, 2, 4):
        assert all(len(talk) == turns for talk in talks(TWO, turns, 12))


def test_a_scene_that_carries_less_has_fewer_turns():
    talk = conversation(TWO, np.random.default_rng(0), 500)
    assert len(talk) < 100
    assert len({(q.task, q.text) for q in talk}) > len(talk) / 2


def test_later_turns_refer_back():
    later = [q for talk in talks(TWO, 4) for q in talk[1:]]
    back = [q for q in later if q.text.startswith(("And ", "What about "))]
    assert len(back) > len(later) / 3
    assert any("And its color?" in q.text for q in back)


def test_it_is_the_thing_of_the_turn_before():
    truth = {
        "ring": ("red", "left", "[10, 40, 30, 60]"),
        "star": ("blue", "right", "[70, 40, 90, 60]"),
    }
    tried = 0
    for talk in talks(TWO, 4, 200):
        for before, question in pairwise(talk):
            about = before.text + " " + before.answer if before.task == "shape" else before.text
            names = [noun for noun in truth if noun in about]
            if " it" in question.text and len(names) == 1 and question.task != "shape":
                tried += 1
                assert question.answer in truth[names[0]], (before, question)
    assert tried > 20


def test_no_color_is_asked_for_that_has_been_named():
    for talk in talks(TWO, 6, 100):
        said = ""
        for question in talk:
            if question.task == "color":
                assert f"{question.answer} ring" not in said
                assert f"{question.answer} star" not in said
            said += f" {question.text} {question.answer}"


def test_films_carry_conversations_too():
    told = {
        q.task
        for seed in range(30)
        for q in conversation(sample_scene(seed, "val", frames=8), np.random.default_rng(seed), 4)
    }
    assert {"move", "exists", "count", "where"} <= told
