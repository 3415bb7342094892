from __future__ import annotations

import math
from collections import Counter
from functools import cache
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from sparsight.core.errors import UserError
from sparsight.world.scene import COLORS
from sparsight.world.space import (
    ROOM_TASKS,
    Room,
    held_out_solid,
    paint_room,
    room_questions,
    sample_room,
)
from sparsight.world.space.rays import Hits, cast, rays, sight
from sparsight.world.space.room import SOLIDS
from sparsight.world.tasks.question import score

ROOMS = [sample_room(seed, "test") for seed in range(60)]


@cache
def small(scene: Room) -> Hits:
    """What the middle of each pixel of small pictures shows."""
    middles = torch.arange(32) + 0.5
    return cast(scene, *rays(scene, 32, middles, middles))


# Drawing rooms


def test_rooms_follow_from_seed_and_split():
    assert sample_room(3) == sample_room(3)
    drawn = [sample_room(seed, split) for seed in (3, 4) for split in ("train", "val", "test")]
    assert len({(r.solids, r.eyes) for r in drawn}) == 6


def test_every_thing_is_seen_clearly_and_numbers_are_even():
    things, views = Counter(), Counter()
    for scene in ROOMS:
        things[len(scene.solids)] += 1
        views[len(scene.eyes)] += 1
        assert len({(s.shape, s.color) for s in scene.solids}) == len(scene.solids)
        assert (sight(scene).share.max(0) > 0.5).all()
        for one, other in combinations(scene.solids, 2):
            assert math.dist((one.x, one.y), (other.x, other.y)) > one.reach + other.reach
    assert set(things) == set(range(1, 7))
    assert set(views) == set(range(2, 9))
    assert max(things.values()) < 20


def test_half_of_the_rooms_must_be_put_together_from_several_views():
    several = [scene for scene in ROOMS if len(scene.solids) > 1]
    parted = sum(not (sight(scene).share > 0).all(1).any() for scene in several)
    assert 0.3 < parted / len(several) < 0.7


def test_held_out_looks_are_in_combos_alone():
    pairs = [(shape, color) for shape in SOLIDS for color in COLORS if held_out_solid(shape, color)]
    assert len(pairs) == 4
    assert len({shape for shape, _ in pairs}) == len({color for _, color in pairs}) == 4
    assert not any(held_out_solid(s.shape, s.color) for scene in ROOMS for s in scene.solids)
    for seed in range(12):
        scene = sample_room(seed, "combos")
        held = [s.phrase for s in scene.solids if held_out_solid(s.shape, s.color)]
        assert len(held) == 1
        for question in room_questions(scene, np.random.default_rng(seed)):
            assert question.task == "things" or held[0] in question.text


# Questions


def asked(task: str, times: int = 1) -> list:
    return [
        (scene, question)
        for seed in range(times)
        for place, scene in enumerate(ROOMS)
        for question in room_questions(scene, np.random.default_rng([place, seed]), [task])
    ]


def named(scene: Room, text: str) -> list[int]:
    """The things that a text names, in their order in it."""
    places = [(text.find(s.phrase), k) for k, s in enumerate(scene.solids)]
    return [k for place, k in sorted(places) if place >= 0]


def view_of(text: str) -> int:
    return int(text.split("view ")[1][0]) - 1


def test_nearer_is_so_in_the_depth_of_that_view_and_either_is_named_first_as_often():
    first = 0
    found = asked("nearer")
    for scene, question in found:
        near = next(k for k, s in enumerate(scene.solids) if s.phrase == question.answer)
        a, b = named(scene, question.text)
        other = b if near == a else a
        assert question.choices == (scene.solids[a].phrase, scene.solids[b].phrase)
        first += near == a
        seen = small(scene)
        view = view_of(question.text)
        depths = [seen.depth[view][seen.owner[view] == k + 1].median() for k in (near, other)]
        assert depths[0] < depths[1]
    assert len(found) > 30
    assert 0.3 < first / len(found) < 0.7


def test_sides_are_so_in_the_picture_of_that_view_and_even():
    answers = Counter()
    for scene, question in asked("side"):
        view, things = view_of(question.text), named(scene, question.text)
        if question.text.startswith("On which side"):
            things.reverse()
        owners = small(scene).owner[view]
        a, b = ((owners == k + 1).nonzero()[:, 1].float().mean() for k in things)
        assert (a < b) == (question.answer == "left")
        answers[question.answer] += 1
    assert min(answers.values()) > 12


def test_the_answer_often_depends_on_the_view():
    """Who looks at any view instead of the one asked about must not get far."""
    turned = total = 0
    for scene, question in asked("side"):
        first, second = (
            np.array([(*scene.solids[k].centre, 1.0)]) for k in named(scene, question.text)
        )
        orders = set()
        for pose, row in zip(scene.extrinsics(), sight(scene).share, strict=True):
            if all(row[k] > 0.6 for k in named(scene, question.text)):
                left, right = (pose @ point.T for point in (first, second))
                orders.add(float(left[0, 0] / left[2, 0]) < float(right[0, 0] / right[2, 0]))
        total += 1
        turned += len(orders) == 2
    assert turned / total > 0.4


def test_distances_are_exact_to_a_decimal_and_no_guess_is_often_right():
    values = []
    for scene, question in asked("distance", times=3):
        centres = scene.centres()
        things = named(scene, question.text)
        if "camera" in question.text:
            true = math.dist(scene.eyes[view_of(question.text)].place, centres[things[0]])
        else:
            true = math.dist(centres[things[0]], centres[things[1]])
        assert question.answer == f"{true:.1f}"
        assert question.choices == ()
        values.append(true)
    assert len(values) == 3 * len(ROOMS)
    best = max(np.mean(np.abs(np.array(values) - g) <= 0.1 * g) for g in np.arange(0.5, 9, 0.1))
    assert best < 0.3  # a fifth over many rooms


def test_all_things_are_counted_over_all_views():
    for scene, question in asked("things"):
        assert question.answer == str(len(scene.solids))
        assert question.choices == ("1", "2", "3", "4", "5", "6")


def test_lettered_options_hold_the_answer_and_none_that_would_pass_for_it():
    letters = Counter()
    for seed, scene in enumerate(ROOMS):
        opened = room_questions(scene, np.random.default_rng(seed), ["distance", "things"])
        assert all(score(question, question.answer) == 1 for question in opened)
        for question in room_questions(scene, np.random.default_rng(seed), form="choice"):
            assert question.form == "choice"
            options = question.choices
            assert len(options) == (2 if question.task in ("nearer", "side") else 4)
            assert [score(question, option) for option in options].count(1) == 1
            letters[question.answer] += len(options) == 4
            if question.task == "distance":
                metres = sorted(map(float, options))
                assert all(b > 1.09 * a for a, b in pairwise(metres))
    assert min(letters[letter] for letter in "ABCD") > 15


def test_a_distance_within_a_tenth_is_right():
    question = asked("distance")[0][1]
    true = float(question.answer)
    assert score(question, f"about {1.08 * true:.2f} metres") == 1
    assert score(question, f"{1.15 * true:.2f}") == 0


def test_a_lone_thing_carries_no_question_about_two():
    scene = next(r for r in ROOMS if len(r.solids) == 1)
    tasks = {q.task for q in room_questions(scene, np.random.default_rng(0))}
    assert tasks == {"distance", "things"}
    assert tasks < set(ROOM_TASKS)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sample_room(-1), "seed -1 is out of range"),
        (lambda: sample_room(0, "tset"), "did you mean 'test'"),
        (lambda: sample_room(0, things=7), "things 7 is out of range: from 1 to 6"),
        (lambda: sample_room(0, things=0), "things 0"),
        (lambda: sample_room(0, views=1), "views 1 is out of range: from 2 to 8"),
        (lambda: sample_room(0, aspect=5), "aspect 5 is out of range"),
        (lambda: paint_room(ROOMS[0], 4), "side 4 is out of range: from 16 to 1,344"),
        (
            lambda: room_questions(ROOMS[0], np.random.default_rng(0), ["nearest"]),
            "did you mean 'nearer'",
        ),
        (
            lambda: room_questions(ROOMS[0], np.random.default_rng(0), form="chioce"),
            "did you mean 'choice'",
        ),
    ],
)
def test_what_is_out_of_range_is_refused_in_one_line(call, words: str):
    with pytest.raises(UserError, match=words) as error:
        call()
    assert "\n" not in str(error.value)
