"""POPE and CHAIR: the figures of the official scripts, and what counts as an object of a scene."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsight.world.exam import exam
from sparsight.world.hallucination import chair, objects_told, pope, says_yes
from sparsight.world.scene import Look, Scene, Steps, Thing, always, constant

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


# ---- POPE --------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["a", "b"])
def test_pope_figures_are_the_official_ones(part: str) -> None:
    data, figures = golden(f"pope/predictions-{part}.json"), golden(f"pope/figures-{part}.json")
    replies = [answer["answer"] for answer in data["answers"]]
    assert [("no", "yes")[says_yes(reply)] for reply in replies] == figures["per_item"]
    score = pope(zip(replies, (label["label"] for label in data["labels"]), strict=True))
    assert_same(score, figures["pope"])


def assert_same(score: Any, official: dict[str, float]) -> None:
    counts = (score.true_yes, score.false_yes, score.true_no, score.false_no)
    assert counts == tuple(official[name] for name in ("TP", "FP", "TN", "FN"))
    ours = (score.accuracy, score.precision, score.recall, score.f1, score.yes_share)
    names = ("Accuracy", "Precision", "Recall", "F1 score", "Yes ratio")
    assert ours == pytest.approx(tuple(official[name] for name in names), abs=1e-12)


@pytest.mark.parametrize("kind", ["all_yes", "all_empty"])
def test_one_answer_to_everything_is_scored_as_officially(kind: str) -> None:
    data = golden("pope/degenerate.json")
    answer = data["constant_answers"][kind]
    score = pope((answer, label["label"]) for label in data["labels"])
    assert_same(score, data["figures"][kind]["pope"])
    assert score.unclear == (len(data["labels"]) if kind == "all_empty" else 0)


def test_never_saying_yes_has_no_precision_instead_of_an_error() -> None:
    score = pope([("No", "yes"), ("No", "no")])
    assert (score.accuracy, score.precision, score.recall, score.f1, score.yes_share) == (
        0.5, 0.0, 0.0, 0.0, 0.0,
    )  # fmt: skip
    assert pope([]).accuracy == 0.0


def test_the_exam_asks_as_often_about_what_is_there() -> None:
    items = list(exam("exists", count=40))
    perfect = pope((item.question.answer, item.question.answer) for item in items)
    always_yes = pope(("Yes.", item.question.answer) for item in items)
    assert (perfect.accuracy, perfect.f1, perfect.yes_share) == (1.0, 1.0, 0.5)
    assert (always_yes.accuracy, always_yes.recall, always_yes.yes_share) == (0.5, 1.0, 1.0)


# ---- CHAIR -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["a", "b"])
def test_chair_figures_are_the_official_ones(part: str) -> None:
    figures = golden(f"chair/figures-{part}.json")
    told = [
        (item["mscoco_generated_words"], item["mscoco_gt_words"]) for item in figures["sentences"]
    ]
    assert_chair(told, figures["overall_metrics"])
    for one, item in zip(told, figures["sentences"], strict=True):
        assert_chair([one], item["metrics"])


def assert_chair(told: list[Any], official: dict[str, float]) -> None:
    score = chair(told)
    assert (score.chair_s, score.chair_i, score.recall) == pytest.approx(
        (official["CHAIRs"], official["CHAIRi"], official["Recall"]), abs=1e-12
    )


@pytest.fixture
def scene() -> Callable[..., Scene]:
    """`scene(*looks)`: one thing a look, side by side; a list of looks is a thing that changes."""

    def make(*looks: Look | list[Look]) -> Scene:
        (item,) = exam("exists", count=1)
        things = []
        for place, given in enumerate(looks):
            several = given if isinstance(given, list) else [given]
            steps = always(several[0])
            if len(several) > 1:
                steps = Steps(tuple(map(float, np.arange(len(several)))), tuple(several))
            x = constant((place + 0.5) / len(looks))
            things.append(Thing(steps, 0.1, x, constant(0.5)))
        return dataclasses.replace(item.scene, things=tuple(things), events=())

    return make


RING, STAR = Look("shape", "ring", "red"), Look("shape", "star", "blue")
LETTER, HORSE = Look("letter", "K", "green"), Look("sprite", "horse")


@pytest.mark.parametrize(
    ("caption", "mentioned"),
    [
        ("0.5 to 1.5: the red ring moves left; 2.0: the star turns blue", ["ring", "star"]),
        ("Two rings and a ring.", ["ring", "ring"]),
        ("A circle beside the crosses", ["circle", "cross"]),
        ("the letter k leaves the letter X", ["letter K", "letter X"]),
        ("the letter spins, the digit 7 blinks", ["letter K", "digit 7"]),
        ("a digit", ["digit"]),
        ("a Horse and a truck", ["horse", "truck"]),
        ("Nothing moves; it is boring, starring nobody", []),
        ("", []),
    ],
)
def test_captions_are_read_for_nouns_whatever_their_color(
    scene: Callable[..., Scene], caption: str, mentioned: list[str]
) -> None:
    found, there = objects_told(caption, scene(RING, STAR, LETTER, HORSE), photographs=["truck"])
    assert found == mentioned
    assert there == {"ring", "star", "letter K", "horse"}


def test_a_thing_that_changes_is_there_in_both_looks(scene: Callable[..., Scene]) -> None:
    _, there = objects_told("", scene([RING, Look("shape", "square", "red")]))
    assert there == {"ring", "square"}


def test_the_right_caption_hallucinates_nothing_and_a_swapped_one_does() -> None:
    items = list(exam("caption", count=12))
    right = chair(objects_told(item.question.answer, item.scene) for item in items)
    assert (right.captions, right.chair_i, right.chair_s) == (12, 0.0, 0.0)
    assert right.recall > 0.5
    others = [*items[1:], items[0]]
    swapped = chair(
        objects_told(other.question.answer, item.scene)
        for item, other in zip(items, others, strict=True)
    )
    assert swapped.mentions == right.mentions
    assert swapped.chair_i > 0.3
    assert swapped.chair_s >= swapped.chair_i
