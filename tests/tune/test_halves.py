"""Items to tune on and items held out."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.tune.halves import halves, kinds_of, selection_of
from tests.tune.pretend import items


def test_every_task_is_cut_in_two_and_asked_in_turn():
    cut = halves(items(90, ("a", "b", "c")), 90, seed=0)
    assert len(cut.tune) == len(cut.held) == 45
    for half in cut:
        assert Counter(item.task for item in half) == {"a": 15, "b": 15, "c": 15}
        assert len({item.task for item in half[:3]}) == 3
    assert not {item.id for item in cut.tune} & {item.id for item in cut.held}


def test_no_more_than_asked_for_are_drawn_and_another_seed_draws_others():
    first, again, other = (halves(items(200), 64, seed=seed) for seed in (0, 0, 1))
    assert [len(half) for half in first] == [32, 32]
    assert [item.id for item in first.tune] == [item.id for item in again.tune]
    assert {item.id for item in first.tune} != {item.id for item in other.tune}


def test_questions_about_the_same_film_are_on_the_same_side():
    asked = [
        dataclasses.replace(item, media=(f"{place // 4}.mp4",))
        for place, item in enumerate(items(80))
    ]
    cut = halves(asked, 80, seed=0)
    assert not {item.media for item in cut.tune} & {item.media for item in cut.held}
    assert abs(len(cut.tune) - len(cut.held)) <= 4


def test_too_few_questions_are_refused():
    with pytest.raises(UserError, match=r"15 questions to tune on and 15 held out are too few"):
        halves(items(30), 30, seed=0)
    alike = [dataclasses.replace(item, media=("one.mp4",)) for item in items(64)]
    with pytest.raises(UserError, match="about several pictures or films"):
        halves(alike, 64, seed=0)


def film(frames: int) -> Clip:
    return Clip.from_frames(torch.zeros(frames, 4, 6, 3, dtype=torch.uint8), fps=1)


def test_what_the_media_are_is_seen_by_opening_some():
    def opened(source):
        if source == "1.mp4":
            raise UserError("1.mp4: there is no such file")
        return film(5)

    assert kinds_of(items(20), opened) == ({"film"}, 5)
    with pytest.raises(UserError, match="no medium of the questions can be read: it is broken"):
        kinds_of(items(3), lambda source: (_ for _ in ()).throw(UserError("it is broken")))


def test_the_selection_of_frames_is_the_items_or_the_models():
    asked = items(4)
    assert selection_of(asked, "uniform:8", 30) == "uniform:8"
    all_of_them = [dataclasses.replace(item, frames="all") for item in asked]
    assert selection_of(all_of_them, "uniform:8", 30) == "uniform:30"
    assert selection_of([asked[0], all_of_them[1]], "uniform:8", 30) == "uniform:8"
