"""Examining a model: every item is asked, scored by its question, and counted with its cost."""

from __future__ import annotations

import pytest

import sparsight
from sparsight.world.exam import exam
from sparsight.world.examine import clip_of, examine
from sparsight.world.tasks.question import right, score


@pytest.fixture(scope="module")
def mini():
    return sparsight.load("mini", dtype="float32")


def test_a_scene_becomes_a_clip_with_its_own_times():
    (film,) = exam("move", count=1)
    clip = clip_of(film.scene, 112)
    assert clip.kind == "film"
    assert clip.timestamps.tolist() == pytest.approx(film.scene.times.tolist())
    assert clip.frames([0]).shape == (1, 112, 112, 3)
    (picture,) = exam("color", count=1)
    assert clip_of(picture.scene, 64).kind == "picture"


def test_outcomes_are_in_the_order_of_the_items_whatever_the_batch(mini):
    items = list(exam("color", count=5))
    singly = list(examine(mini, items, batch=1))
    together = list(examine(mini, items, batch=4))
    assert [o.question for o in singly] == [item.question for item in items]
    assert [o.reply for o in singly] == [o.reply for o in together]
    for outcome in singly:
        assert outcome.score == score(outcome.question, outcome.reply)
        assert outcome.right == right(outcome.question, outcome.reply)
        assert outcome.flops > 0
        assert outcome.seconds > 0


def test_fewer_tokens_are_counted_and_cost_less(mini):
    items = list(exam("move", count=2))
    full = list(examine(mini, items))
    quarter = list(examine(mini.using("uniform", keep=0.25), items))
    for whole, part in zip(full, quarter, strict=True):
        assert part.visual < 0.3 * whole.visual
        assert part.flops < whole.flops


def test_a_blind_exam_shows_nothing(mini):
    for outcome in examine(mini, list(exam("color", count=3)), blind=True):
        assert outcome.visual == 0
