"""Exams: the same questions each time, balanced, and no better answered by guessing."""

import re
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from sparsight.core.errors import UserError
from sparsight.world.exam import DEFAULT_FRAMES, FRAMES, Item, exam, prior
from sparsight.world.paint import paint
from sparsight.world.prior import Prior, wording
from sparsight.world.scene import COLORS
from sparsight.world.splits import actor, held_out_action, held_out_look
from sparsight.world.tasks import TASKS, Question
from sparsight.world.tasks.scoring import box_overlap, numbers

#: What guessing at random reaches, in percent.
CHANCE = {
    "exists": 50, "color": 12.5, "shape": 16.7, "where": 25, "move": 12.5, "needle": 10,
    "repeat": 16.7, "count": 16.7,
}  # fmt: skip


def answers(items: list[Item]) -> Counter[str]:
    return Counter(item.question.answer for item in items)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_an_exam_in_both_forms(task: str):
    for form in ("open", "choice"):
        items = list(exam(task, "test", 4, form=form))
        assert [item.question.task for item in items] == [task] * 4
        assert {item.question.form for item in items} == {form}
        assert {item.scene.frames for item in items} == {FRAMES.get(task, DEFAULT_FRAMES)}


def test_an_exam_is_always_the_same_and_another_seed_another():
    a, b, other = (list(exam("state", count=12, seed=seed)) for seed in (1, 1, 2))
    assert [(i.scene, i.question) for i in a] == [(i.scene, i.question) for i in b]
    assert {i.question.text for i in a} != {i.question.text for i in other}


def test_a_longer_exam_begins_with_the_shorter_one():
    short, long = list(exam("move", count=10)), list(islice(exam("move", count=30), 10))
    assert [i.question for i in short] == [i.question for i in long]


def test_no_two_items_share_a_scene():
    seeds = [item.scene.seed for item in exam("color", count=50)]
    assert len(set(seeds)) == 50


@pytest.mark.parametrize(
    ("task", "space"), [("color", 8), ("shape", 6), ("move", 8), ("repeat", 6)]
)
def test_no_answer_of_a_closed_question_is_right_more_often(task: str, space: int):
    counts = answers(list(exam(task, count=10 * space)))
    assert len(counts) == space
    assert max(counts.values()) - min(counts.values()) <= 1


def test_sizes_of_text_are_even():
    sizes = Counter(item.question.size for item in exam("read", count=40))
    assert sizes == {"tiny": 10, "small": 10, "medium": 10, "large": 10}


@pytest.mark.parametrize("task", CHANCE)
def test_closed_tasks_cannot_be_guessed_from_the_words(task: str):
    frames = 8 if task == "needle" else None
    blind = prior(task, 250, frames=frames)
    reached = 100 * blind.score(exam(task, count=250, frames=frames))
    assert reached < CHANCE[task] + 3 * np.sqrt(CHANCE[task] * (100 - CHANCE[task]) / 250) + 4


def test_options_cannot_be_guessed_from_the_words():
    reached = prior("box", 250, form="choice").score(exam("box", count=250, form="choice"))
    assert reached < 0.35


def test_combos_ask_for_looks_that_training_never_shows():
    for item in exam("color", "combos", 30):
        names = [
            thing.look.name
            for thing in item.scene.things
            if thing.look.color == item.question.answer and thing.look.kind != "sprite"
        ]
        assert any(held_out_look(name, item.question.answer) for name in names)
    colors = {item.question.answer for item in exam("color", "combos", 16)}
    assert colors == set(COLORS)


@pytest.mark.parametrize("task", ["where", "move", "when", "cause", "narrate"])
def test_combos_ask_about_things_or_actions_that_training_never_shows(task: str):
    for split, wanted in (("combos", True), ("test", False)):
        for item in exam(task, split, 12):
            looks = [look for thing in item.scene.things for look in thing.looks.values]
            held = any(held_out_look(look.name, look.color) for look in looks)
            first = [item.scene.things[event.thing].look for event in item.scene.events]
            acts = zip(first, item.scene.events, strict=True)
            held |= any(held_out_action(actor(look), event.action) for look, event in acts)
            assert held == wanted


def test_boxes_of_answers_hold_the_painted_things():
    for item in exam("box", count=8):
        owners = paint(item.scene, [0.0], 112).owners[0].numpy()
        wanted = numbers(item.question.answer)
        overlaps = []
        for place in range(len(item.scene.things)):
            rows, columns = np.nonzero(owners == place + 1)
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            overlaps.append(box_overlap([100 * edge / 112 for edge in edges], wanted))
        name = item.scene.things[int(np.argmax(overlaps))].look
        assert max(overlaps) > 0.7
        assert name.noun in item.question.text or name.kind in item.question.text


def test_blinks_of_answers_are_the_painted_ones():
    tried = 0
    for item in exam("repeat", count=24):
        blinks = [e for e in item.scene.events if e.action == "blink"]
        if "blink" in item.question.text and len(blinks) == 1:
            tried += 1
            owners = paint(item.scene, item.scene.times, 64).owners.numpy()
            gone = ~(owners == blinks[0].thing + 1).any((1, 2))
            assert str(int((np.diff(gone.astype(int)) == 1).sum())) == item.question.answer
    assert tried > 2


# The best guess


def question(text: str, answer: str, **other) -> Item:
    return Item(None, Question("color", text, answer, **other))  # type: ignore[arg-type]


def test_the_prior_finds_what_the_words_give_away():
    known = [question("What color is the sky?", "blue")] * 8 + [
        question("What color is the sea?", "green")
    ] * 8
    blind = Prior(item.question for item in known)
    assert blind.guess(known[0].question) == "blue"
    assert blind.guess(known[-1].question) == "green"
    assert blind.score([question("What color is the sky?", "blue"), known[-1]]) == 1


def test_words_that_are_rare_are_guessed_by_their_wording_and_then_by_task():
    known = [question(f"What color is the digit {n}?", "red") for n in range(10)]
    known += [question("Is it so?", "blue")] * 30
    blind = Prior(item.question for item in known)
    assert blind.guess(question("What color is the letter K?", "").question) == "red"
    assert blind.guess(question("Name the tint.", "").question) == "blue"


def test_the_prior_finds_a_favoured_place_among_the_choices():
    names = [("a ring", "a star"), ("a cross", "a square"), ("a disc", "a bar")] * 4
    known = [question(f"First, {a} or {b}?", b, choices=(a, b)) for a, b in names]
    blind = Prior(item.question for item in known)
    assert (
        blind.guess(question("First, a dot or a line?", "", choices=("a dot", "a line")).question)
        == "a line"
    )


def test_the_prior_of_intervals_is_the_one_that_fits_most():
    spans = ["1.0 to 3.0", "1.2 to 3.0", "1.0 to 3.2", "5.0 to 6.0", "5.0 to 6.0"]
    known = [question("When?", span, scorer="interval") for span in spans * 2]
    blind = Prior(item.question for item in known)
    assert blind.score(known) == pytest.approx(0.6)


def test_a_wording_has_no_names_and_no_numbers():
    first, second = (
        Question("when", f"The film lasts {n} seconds. When does the {name} blink?", "")
        for n, name in (("4.0", "red ring"), ("12.5", "blue letter K"))
    )
    assert wording(first) == wording(second)
    assert re.search("when does the _ blink", wording(first), re.I)


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "colors"}, "'colors'.*did you mean 'color'"),
        ({"task": "color", "split": "tests"}, "unknown split"),
        ({"task": "color", "form": "multi"}, "unknown form"),
        ({"task": "color", "count": 0}, "0 questions"),
        ({"task": "color", "seed": -1}, "seed -1"),
        ({"task": "color", "frames": 0}, "0 frames"),
        ({"task": "repeat", "frames": 4}, "scenes of 4 frames carry no"),
    ],
)
def test_an_exam_that_cannot_be_held_is_refused_in_one_line(arguments, message: str):
    with pytest.raises(UserError, match=message) as caught:
        next(exam(**arguments))
    assert "\n" not in str(caught.value)
