"""Questions have one exact answer, and nothing but the pixels tells it."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import lru_cache

import numpy as np
from mini_questions import FILM_TASKS, PICTURE_TASKS, Question, questions, score
from mini_scenes import SIDE, Scene, Thing, sample_scene


@lru_cache
def ask_many(film: bool, scenes: int = 1200) -> list[Question]:
    return [
        question
        for seed in range(scenes)
        for question in questions(sample_scene(seed, "val", film), np.random.default_rng(seed))
    ]


def test_every_task_is_asked_and_every_answer_is_a_choice():
    for film, tasks in ((False, PICTURE_TASKS), (True, FILM_TASKS)):
        asked = ask_many(film)
        assert {question.task for question in asked} == set(tasks)
        assert all(question.answer in question.choices for question in asked)


def test_best_constant_answer_is_near_chance():
    limits = {
        "color": 0.17,
        "shape": 0.22,
        "exists": 0.505,
        "count": 0.42,
        "letter": 0.17,
        "where": 0.32,
        "move": 0.32,
    }
    for film in (False, True):
        answers = defaultdict(Counter)
        for question in ask_many(film):
            answers[question.task][question.answer] += 1
        for task, limit in limits.items():
            if task in answers:
                assert max(answers[task].values()) / sum(answers[task].values()) < limit, task


def test_which_comes_first_names_either_thing_as_often():
    asked = [question for question in ask_many(True) if question.task == "first"]
    share = np.mean([question.choices[0] == question.answer for question in asked])
    assert len(asked) > 300
    assert abs(share - 0.5) < 0.1


def test_yes_and_no_are_asked_in_the_same_words():
    per_answer = defaultdict(Counter)
    for question in ask_many(False):
        if question.task == "exists":
            words = question.text.lower().rstrip("?").split()
            per_answer[question.answer].update(w for w in words if w in ("letter", "thing"))
    assert per_answer["yes"]["letter"] == per_answer["no"]["letter"]
    assert per_answer["yes"]["thing"] == per_answer["no"]["thing"]


def answers_of(things: tuple[Thing, ...], task: str, frames: int = 8) -> set[tuple[str, str]]:
    """Wordless pairs of (what the question names, answer) over many draws."""
    scene = Scene(things, frames, background=0)
    found = set()
    for seed in range(60):
        for question in questions(scene, np.random.default_rng(seed)):
            if question.task == task:
                found.add((question.text, question.answer))
    return found


def test_ambiguous_questions_are_left_out():
    red_pair = (Thing("circle", "red", 30, (30, 30)), Thing("square", "red", 30, (80, 80)))
    assert not answers_of(red_pair, "shape")
    circles = (Thing("circle", "red", 30, (30, 30)), Thing("circle", "blue", 30, (80, 80)))
    assert not answers_of(circles, "color")
    assert not answers_of((Thing("circle", "red", 30, (SIDE / 2, SIDE / 2)),), "where")
    assert not answers_of(circles, "first")
    assert not answers_of(circles, "move")


def test_answers_are_those_of_the_scene():
    things = (
        Thing("circle", "red", 30, (25, 60), appear=0.4),
        Thing("K", "blue", 30, (85, 30), travel=(0, 40)),
    )
    assert {answer for _, answer in answers_of(things, "letter")} == {"K"}
    assert {answer for _, answer in answers_of(things, "move")} == {"down"}
    assert {answer for _, answer in answers_of(things, "where")} == {"left"}
    assert {answer for _, answer in answers_of(things, "first")} == {"blue letter K"}
    for text, answer in answers_of(things, "color"):
        assert answer == ("red" if "circle" in text else "blue")
    present = ("red circle", "a circle", "red thing", "blue letter K", "a letter K", "blue thing")
    for text, answer in answers_of(things, "exists"):
        assert answer == ("yes" if any(name in text for name in present) else "no")


def test_score_forgives_form_and_nothing_else():
    question = Question("first", "Which comes first?", "red circle", ("red circle", "blue ring"))
    assert score(question, " The red circle.")
    assert not score(question, "red")
    assert not score(question, "red circle blue ring")
    assert not score(question, "")
