"""Questions of every family, over scenes as they are sampled."""

from collections import Counter

import numpy as np
import pytest

from sparsight.core.errors import UserError
from sparsight.world.sampler import sample_scene
from sparsight.world.scene import Scene
from sparsight.world.tasks import FAMILIES, SEEN, TASKS, Question, ask, questions, score
from tests.world.tasks.building import film, picture, thing

NAMES = (
    "exists", "color", "shape", "count", "where", "box", "read", "move", "order", "repeat",
    "when", "needle", "state", "cause", "caption", "summary", "sound", "region", "narrate",
)  # fmt: skip


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """A few of each task, pictures where the task has them, films of 12 frames and free ones."""
    found = [sample_scene(seed, "train", frames=8) for seed in range(40)]
    found += [sample_scene(seed, "combos", frames=1) for seed in range(20)]
    return found + [
        sample_scene(seed, "train", task, frames=12) for task in TASKS for seed in range(6)
    ]


@pytest.fixture(scope="module")
def pool(scenes: list[Scene]) -> list[Question]:
    rng = np.random.default_rng(0)
    return [question for scene in scenes for question in questions(scene, rng, TASKS, choice=0.3)]


def test_all_families_are_there():
    assert sorted(TASKS) == sorted(NAMES)


@pytest.mark.parametrize("task", NAMES)
def test_scenes_made_for_a_task_carry_its_question(task: str):
    frames = 1 if task in ("exists", "color", "shape", "count", "where", "box", "read") else 12
    rng = np.random.default_rng(0)
    found = [ask(task, sample_scene(seed, "test", task, frames=frames), rng) for seed in range(20)]
    assert sum(question is not None for question in found) >= 10
    assert all(question is None or question.task == task for question in found)


def test_every_answer_scores_as_right(pool: list[Question]):
    assert len(pool) > 1000
    assert {question.task for question in pool} == set(TASKS)
    for question in pool:
        assert score(question, question.answer) == 1, question


def test_questions_name_the_things_they_are_about(scenes: list[Scene]):
    rng = np.random.default_rng(0)
    seen = 0
    for scene in scenes:
        for question in questions(scene, rng, ("color", "shape")):
            if question.about and len(scene.things[question.about[0]].looks.values) == 1:
                (look,) = scene.things[question.about[0]].looks.values
                assert question.answer in (look.color, look.noun), question
                seen += 1
    assert seen > 100


def test_every_answer_is_one_of_its_choices(pool: list[Question]):
    for question in pool:
        if question.form == "choice":
            assert question.choices["ABCDEFGH".index(question.answer)]
        elif question.choices:
            assert question.answer in question.choices


def test_lettered_options_are_in_the_text_and_no_two_are_right(pool: list[Question]):
    lettered = [question for question in pool if question.form == "choice"]
    assert len(lettered) > 200
    for question in lettered:
        assert 2 <= len(set(question.choices)) == len(question.choices) <= 4
        for label, option in zip("ABCD", question.choices, strict=False):
            assert f"{label}. {option}" in question.text
            assert score(question, option) == (label == question.answer)


def test_each_letter_is_right_as_often(pool: list[Question]):
    four = [q.answer for q in pool if q.form == "choice" and len(q.choices) == 4]
    for label in "ABCD":
        assert 0.17 < four.count(label) / len(four) < 0.33


def test_texts_are_whole_sentences(pool: list[Question]):
    for question in pool:
        first = question.text.split("\n")[0]
        assert first[0].isupper()
        assert first[-1] in "?."
        assert "{" not in first


def test_answers_are_short_and_lower_case(pool: list[Question]):
    for question in pool:
        if question.form == "open" and question.task not in ("caption", "read", "needle", "state"):
            words = question.answer.replace("letter", "").split()
            assert all(word.islower() or len(word) <= 2 or not word.isalpha() for word in words)
            assert len(question.answer) < 60


def test_the_same_draws_give_the_same_questions(scenes: list[Scene]):
    for scene in scenes[:10]:
        a, b = (questions(scene, np.random.default_rng(3)) for _ in range(2))
        assert a == b


def test_tasks_and_their_number_can_be_chosen(scenes: list[Scene]):
    for scene in scenes[:10]:
        rng = np.random.default_rng(0)
        assert {q.task for q in questions(scene, rng, ("color", "exists"))} <= {"color", "exists"}
        counts = Counter(q.task for q in questions(scene, rng, most=1))
        assert set(counts.values()) == {1}


def test_what_takes_hearing_is_asked_only_by_name(scenes: list[Scene]):
    rng = np.random.default_rng(0)
    loud = next(scene for scene in scenes if scene.sounds)
    assert any(q.task == "sound" for q in questions(loud, rng, ("sound",)))
    assert all(q.task in SEEN for q in questions(loud, rng))


def test_two_questions_of_a_task_have_two_answers_where_they_can():
    scene = picture(thing("red ring", (0.2, 0.5)), thing("blue star", (0.8, 0.5)))
    for seed in range(20):
        found = questions(scene, np.random.default_rng(seed), ("exists", "color"))
        for task in ("exists", "color"):
            mine = [q for q in found if q.task == task]
            assert len({(q.text.split()[-1], q.answer) for q in mine}) == 2


def test_of_a_task_no_more_is_asked_than_a_scene_carries(scenes: list[Scene]):
    rng = np.random.default_rng(0)
    for scene in scenes[::3]:
        many = Counter(question.task for question in questions(scene, rng, most=12))
        few = Counter(question.task for question in questions(scene, rng))
        assert all(few[task] <= many[task] <= 12 for task in few)


def test_closed_answers_of_training_are_even():
    rng = np.random.default_rng(1)
    asked: dict[str, Counter[str]] = {"exists": Counter(), "move": Counter(), "color": Counter()}
    for seed in range(160):
        for task, counts in asked.items():
            scene = sample_scene(seed, "train", task, frames=8 if task == "move" else 1)
            counts.update(q.answer for q in questions(scene, rng, (task,)))
    for task, counts in asked.items():
        every = next(iter(FAMILIES[task].groups.values())).choices
        total = counts.total()
        for answer in every:
            share = counts[answer] / total
            assert abs(share - 1 / len(every)) < 0.4 / len(every) + 0.02, (task, answer, share)


def test_a_scene_without_things_carries_no_question_about_one():
    for scene in (picture(), film()):
        found = questions(scene, np.random.default_rng(0), TASKS)
        assert found == []


def test_long_films_are_asked_about_too():
    scene = sample_scene(1, "test", "move", frames=5000, fps=8.0)
    assert ask("move", scene, np.random.default_rng(0)) is not None


def test_an_unknown_task_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"'colour'.*did you mean 'color'"):
        ask("colour", picture(thing()), np.random.default_rng(0))
    with pytest.raises(UserError, match="'need'"):
        questions(picture(thing()), np.random.default_rng(0), ("need",))
