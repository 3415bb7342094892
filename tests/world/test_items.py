"""The world's exams as items."""

from __future__ import annotations

import pytest

from sparsight.core.errors import UserError
from sparsight.world.exam import exam
from sparsight.world.items import exam_items
from sparsight.world.tasks.question import right, score


def test_items_are_the_questions_of_the_exam():
    asked = list(exam("color", count=4, seed=2))
    items = exam_items("color", 4, seed=2)
    for item, source in zip(items, asked, strict=True):
        assert (item.question, item.answer) == (source.question.text, source.question.answer)
        for reply in (item.answer, "nothing"):
            assert item.score(reply) == score(source.question, reply)
            assert item.right(reply) == right(source.question, reply)
        assert item.task == "color"


def test_a_partial_score_passes_from_one_half_on():
    item = next(item for item in exam_items("when", 4) if " to " in item.answer)
    start, end = (float(part) for part in item.answer.split(" to "))
    assert item.right(f"{start} to {start + 0.6 * (end - start)}")
    assert not item.right(f"{start} to {start + 0.4 * (end - start)}")


def test_scenes_are_painted_when_they_are_asked_about(monkeypatch: pytest.MonkeyPatch):
    painted = []

    def clip_of(scene, side):
        painted.append(side)
        return "clip"

    monkeypatch.setattr("sparsight.world.items.clip_of", clip_of)
    items = exam_items("move", 3, side=64)
    assert painted == []
    assert items[1].sources() == ["clip"]
    assert painted == [64]


def test_a_film_is_looked_at_whole():
    [item] = exam_items("move", 1, side=64)
    [clip] = item.sources()
    assert (clip.kind, clip.size, len(clip)) == ("film", (64, 64), 8)
    assert item.frames == "all"


def test_the_first_of_many_are_those_of_few():
    few, many = exam_items("shape", 2), exam_items("shape", 4)
    assert [item.id for item in few] == [item.id for item in many[:2]]
    assert [item.sign for item in few] == [item.sign for item in many[:2]]
    assert len({item.id for item in many}) == 4


def test_other_exams_have_other_ids():
    exams = [
        exam_items("color", 1), exam_items("color", 1, seed=1), exam_items("color", 1, side=64),
        exam_items("color", 1, split="val"), exam_items("shape", 1),
    ]  # fmt: skip
    assert len({items[0].id for items in exams}) == len(exams)


def test_an_unknown_task_is_told():
    with pytest.raises(UserError, match="did you mean 'color'"):
        exam_items("colour", 1)
